"""Formats in which models mark the parts of their output that are not the answer: tool calls and reasoning.

A model's formats are detected from its chat template and tokens, as mlx-lm does (its `tokenizer_utils.py` and
`tool_parsers/`, whose list this one follows).
"""

from __future__ import annotations

import enum
from typing import Any

from attrs import frozen

__all__ = ["ARGUMENT_SYNTAXES", "ArgumentSyntax", "ReasoningForm", "ReasoningMarks", "ToolCallFormat"]


class ToolCallFormat(enum.Enum):
    """Tool-call format of a model: opening mark, closing mark and name.

    Models whose template has no tools are prompted to use the first.
    """

    TAGGED = ("<tool_call>", "</tool_call>", "hermes")
    """One JSON object `{"name", "arguments"}` between two marks; used by Hermes and Qwen."""
    BARRED = ("<|tool_call|>", "<|/tool_call|>", "phi")
    """A JSON array of such objects; used by Phi-4-mini and by Granite, which omits the closing mark."""
    LLAMA = ("<|python_tag|>", "<|eom_id|>", "llama")
    """Such objects with `parameters`, separated by semicolons; used by Llama 3, which may omit both marks."""
    MISTRAL = ("[TOOL_CALLS]", "</s>", "mistral")
    """`name[ARGS]{…}`, or a JSON array of objects."""
    KIMI_K2 = ("<|tool_call_begin|>", "<|tool_call_end|>", "kimi_k2")
    """`functions.name:0<|tool_call_argument_begin|>{…}`, with all calls in one section."""
    HARMONY = ("<|channel|>", "<|call|>", "harmony")
    """Messages on channels: `commentary to=functions.name <|constrain|>json<|message|>{…}`; used by gpt-oss."""
    QWEN_CODER = ("<tool_call>", "</tool_call>", "qwen3_coder")
    """`<function=name>` and `<parameter=key>`."""
    GLM = ("<tool_call>", "</tool_call>", "glm47")
    """The name, then `<arg_key>` and `<arg_value>`; also used by Laguna."""
    LONGCAT = ("<longcat_tool_call>", "</longcat_tool_call>", "longcat")
    """The same with different marks."""
    MINIMAX = ("<minimax:tool_call>", "</minimax:tool_call>", "minimax_m2")
    """`<invoke name="…">` and `<parameter name="…">`."""
    MUSE = ("<atem:function_calls>", "</atem:function_calls>", "muse_spark")
    """The same with a prefix."""
    MINICPM = ('<function name="', "</function>", "minicpm5")
    """`<param name="…">`."""
    KIMI_K3 = ("<|open|>tools<|sep|>", "<|close|>tools<|sep|>", "kimi_k3")
    """`<|open|>call tool="…"<|sep|>` and `<|open|>argument key="…"<|sep|>`."""
    PYTHONIC = ("<|tool_call_start|>", "<|tool_call_end|>", "pythonic")
    """`[name(key="value")]`; used by LFM2."""
    GEMMA = ("<|tool_call>", "<tool_call|>", "gemma4")
    """`call:name{key:<|"|>value<|"|>}`."""
    FUNCTION_GEMMA = ("<start_function_call>", "<end_function_call>", "function_gemma")
    """`call:name{key:<escape>value<escape>}`."""

    @property
    def opening(self) -> str:
        """Mark before a call."""
        return self.value[0]

    @property
    def closing(self) -> str:
        """Mark after a call."""
        return self.value[1]

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks of this format that a tokenizer may have as single tokens."""
        if self is ToolCallFormat.KIMI_K3:
            return _XTML  # its marks consist of several tokens
        closing = (
            () if self is ToolCallFormat.MISTRAL else (self.closing,)
        )  # its closing mark is the token that ends every answer
        return (self.opening, *closing, *_MORE_MARKS.get(self, ()))


_XTML = ("<|open|>", "<|close|>", "<|sep|>")
_MORE_MARKS: dict[ToolCallFormat, tuple[str, ...]] = {
    ToolCallFormat.MISTRAL: ("[ARGS]", "[CALL_ID]"),
    ToolCallFormat.KIMI_K2: (
        "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_argument_begin|>",
    ),
    ToolCallFormat.HARMONY: ("<|message|>", "<|start|>", "<|end|>", "<|return|>", "<|constrain|>"),
    ToolCallFormat.GLM: ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    ToolCallFormat.LONGCAT: (
        "<longcat_arg_key>", "</longcat_arg_key>", "<longcat_arg_value>", "</longcat_arg_value>",
    ),
    ToolCallFormat.KIMI_K3: _XTML,
    ToolCallFormat.GEMMA: ('<|"|>',),
    ToolCallFormat.FUNCTION_GEMMA: ("<escape>",),
}  # fmt: skip


@frozen(kw_only=True)
class ArgumentSyntax:
    """Text around a call's name and around each argument, in formats whose arguments are not a JSON object."""

    named: tuple[str, str]
    """Text before the name (after the opening mark or the previous call) and after it."""
    key: str
    """Text before an argument's key."""
    key_pattern: str
    """Pattern of keys that survive being written and parsed again."""
    value: str
    """Text between key and value."""
    text_value: str | None = None
    """The same before a string value; None if it is no different."""
    end: str
    """Text after a value."""
    text_end: str | None = None
    """The same after a string value."""
    between: str = ""
    """Text between two arguments."""
    called: str
    """Text after the last argument."""
    closed: str = ""
    """Text between the last call and the closing mark."""
    has_plain_texts: bool = True
    """True if strings are written verbatim, without quotation marks and escapes."""
    strips_texts: bool = True
    """True if parsers strip white space from such strings."""

    def is_plain_text(self, schema: Any) -> bool:
        """True if a value of this schema is written verbatim; parsers of the answer use the same rule."""
        return self.has_plain_texts and isinstance(schema, dict) and schema.get("type") == "string"

    def fences(self, form: ToolCallFormat, *, is_text: bool) -> tuple[str, ...]:
        """Marks that no value may contain, because a parser would take them for the end of the value or block, or for a
        new call."""
        end = (self.text_end if is_text else None) or self.end
        around = form.closing if self.between else self.named[0].strip().partition(" ")[0]
        return tuple(one for one in (end.strip().removesuffix("<|sep|>"), around) if one)


_QUOTED = r'(?!\s)[^"]{1,256}(?<!\s)'
_WORD = r"[\w-]+"
ARGUMENT_SYNTAXES = {
    ToolCallFormat.QWEN_CODER: ArgumentSyntax(
        named=("\n<function=", ">\n"),
        key="<parameter=",
        key_pattern=r"[^>\s]{1,256}",
        value=">\n",
        end="\n</parameter>\n",
        called="</function>\n",
        strips_texts=False,
    ),
    ToolCallFormat.GLM: ArgumentSyntax(
        named=("", "\n"),
        key="<arg_key>",
        key_pattern=r"(?!\s)[^<]{1,256}(?<!\s)",
        value="</arg_key>\n<arg_value>",
        end="</arg_value>\n",
        called="",
    ),
    ToolCallFormat.LONGCAT: ArgumentSyntax(
        named=("", "\n"),
        key="<longcat_arg_key>",
        key_pattern=r"(?!\s)[^<]{1,256}(?<!\s)",
        value="</longcat_arg_key>\n<longcat_arg_value>",
        end="</longcat_arg_value>\n",
        called="",
    ),
    ToolCallFormat.MINIMAX: ArgumentSyntax(
        named=('\n<invoke name="', '">\n'),
        key='<parameter name="',
        key_pattern=_QUOTED,
        value='">',
        end="</parameter>\n",
        called="</invoke>\n",
    ),
    ToolCallFormat.MUSE: ArgumentSyntax(
        named=('\n<atem:invoke name="', '">\n'),
        key='<atem:parameter name="',
        key_pattern=_QUOTED,
        value='">',
        end="</atem:parameter>\n",
        called="</atem:invoke>\n",
    ),
    ToolCallFormat.MINICPM: ArgumentSyntax(
        named=("", '">'), key='<param name="', key_pattern=_QUOTED, value='">', end="</param>", called=""
    ),
    ToolCallFormat.KIMI_K3: ArgumentSyntax(
        named=('<|open|>call tool="', '" index="1"<|sep|>'),
        key='<|open|>argument key="',
        key_pattern=_QUOTED,
        value='" type="object"<|sep|>',
        text_value='" type="string"<|sep|>',
        end="<|close|>argument<|sep|>",
        called="<|close|>call<|sep|>",
    ),
    ToolCallFormat.PYTHONIC: ArgumentSyntax(
        named=("[", "("),
        key="",
        key_pattern=_WORD,
        value="=",
        end="",
        between=", ",
        called=")",
        closed="]",
        has_plain_texts=False,
    ),
    ToolCallFormat.GEMMA: ArgumentSyntax(
        named=("call:", "{"),
        key="",
        key_pattern=_WORD,
        value=":",
        text_value=':<|"|>',
        end="",
        text_end='<|"|>',
        between=",",
        called="}",
        strips_texts=False,
    ),
    ToolCallFormat.FUNCTION_GEMMA: ArgumentSyntax(
        named=("call:", "{"),
        key="",
        key_pattern=_WORD,
        value=":",
        text_value=":<escape>",
        end="",
        text_end="<escape>",
        between=",",
        called="}",
        strips_texts=False,
    ),
}
"""Syntax of the formats that write arguments one by one."""


class ReasoningMarks(enum.Enum):
    """Marks around a model's reasoning."""

    THINK = ("<think>", "</think>")
    """DeepSeek-R1, Qwen3, Phi-4-reasoning, GLM, Kimi K2 and most others."""
    LONGCAT = ("<longcat_think>", "</longcat_think>")
    BARS = ("<|think:start|>", "<|think:end|>")
    MISTRAL = ("[THINK]", "[/THINK]")
    SEED = ("<seed:think>", "</seed:think>")
    GEMMA = ("<|channel>thought", "<channel|>")
    KIMI_K3 = ("<|open|>think<|sep|>", "<|close|>think<|sep|>")
    HARMONY = ("<|channel|>analysis<|message|>", "<|end|>")
    """gpt-oss: all output is on channels and is parsed by channel."""

    @property
    def opening(self) -> str:
        """Mark before the reasoning."""
        opening: str = self.value[0]
        return opening

    @property
    def closing(self) -> str:
        """Mark after the reasoning."""
        closing: str = self.value[1]
        return closing


@frozen(kw_only=True)
class ReasoningForm:
    """Describes how a model marks and switches its reasoning."""

    marks: ReasoningMarks = ReasoningMarks.THINK
    """Any model may open an answer with these, whatever its template says."""
    is_known: bool = False
    """True if the model's template or tokens contain these marks."""
    is_opened: bool = False
    """True if the prompt ends with the opening mark, so that answers begin inside the reasoning."""
    has_switch: bool = False
    """True if the template has a switch that turns reasoning off."""
    is_asked_for: bool = False
    """True if the model reasons only when the template asks for it."""

    def as_json(self) -> list[Any]:
        """JSON for a frame of the sandbox."""
        return [self.marks.name, self.is_known, self.is_opened, self.has_switch, self.is_asked_for]

    @classmethod
    def from_json(cls, told: list[Any]) -> ReasoningForm:
        """Inverse of `as_json`."""
        name, is_known, is_opened, has_switch, is_asked_for = told
        return cls(
            marks=ReasoningMarks[name],
            is_known=is_known,
            is_opened=is_opened,
            has_switch=has_switch,
            is_asked_for=is_asked_for,
        )

    def begins_open(self, *, thinks: bool | None, is_held: bool) -> bool:
        """True if an answer begins inside the reasoning: never with reasoning off, nor if ``is_held`` to a form."""
        wants = not self.is_asked_for if thinks is None else thinks
        return self.is_opened and wants and not is_held
