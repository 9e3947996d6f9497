"""How models mark what is no answer in their text: calls of tools, and what they think before they answer.

Which of these a model writes is read from its chat template and its tokens, as mlx-lm does (`tokenizer_utils.py` and
`tool_parsers/` there, whose list this one follows).
"""

from __future__ import annotations

import enum
from typing import Any

from attrs import frozen

__all__ = ["ARGUMENT_SYNTAXES", "ArgumentSyntax", "ReasoningForm", "ReasoningMarks", "ToolCallFormat"]


class ToolCallFormat(enum.Enum):
    """How a model writes the calls that it wants made: the mark before them, the mark behind, and whose form it is.

    One whose template has no tools is asked for the first.
    """

    TAGGED = ("<tool_call>", "</tool_call>", "hermes")
    """One JSON object `{"name", "arguments"}` between two marks; the form of Hermes and Qwen."""
    BARRED = ("<|tool_call|>", "<|/tool_call|>", "phi")
    """A JSON array of such objects; the form of Phi-4-mini and Granite, which leaves the closing mark out."""
    LLAMA = ("<|python_tag|>", "<|eom_id|>", "llama")
    """Such objects with `parameters`, and a semicolon between two; the form of Llama 3, which may leave both marks out."""
    MISTRAL = ("[TOOL_CALLS]", "</s>", "mistral")
    """`name[ARGS]{…}`, or a JSON array of objects."""
    KIMI_K2 = ("<|tool_call_begin|>", "<|tool_call_end|>", "kimi_k2")
    """`functions.name:0<|tool_call_argument_begin|>{…}`, all calls in a section of their own."""
    HARMONY = ("<|channel|>", "<|call|>", "harmony")
    """Messages on channels: `commentary to=functions.name <|constrain|>json<|message|>{…}`; the form of gpt-oss."""
    QWEN_CODER = ("<tool_call>", "</tool_call>", "qwen3_coder")
    """`<function=name>` and `<parameter=key>`."""
    GLM = ("<tool_call>", "</tool_call>", "glm47")
    """The name, then `<arg_key>` and `<arg_value>`; also Laguna's."""
    LONGCAT = ("<longcat_tool_call>", "</longcat_tool_call>", "longcat")
    """The same with marks of its own."""
    MINIMAX = ("<minimax:tool_call>", "</minimax:tool_call>", "minimax_m2")
    """`<invoke name="…">` and `<parameter name="…">`."""
    MUSE = ("<atem:function_calls>", "</atem:function_calls>", "muse_spark")
    """The same with a prefix."""
    MINICPM = ('<function name="', "</function>", "minicpm5")
    """`<param name="…">`."""
    KIMI_K3 = ("<|open|>tools<|sep|>", "<|close|>tools<|sep|>", "kimi_k3")
    """`<|open|>call tool="…"<|sep|>` and `<|open|>argument key="…"<|sep|>`."""
    PYTHONIC = ("<|tool_call_start|>", "<|tool_call_end|>", "pythonic")
    """`[name(key="value")]`; the form of LFM2."""
    GEMMA = ("<|tool_call>", "<tool_call|>", "gemma4")
    """`call:name{key:<|"|>value<|"|>}`."""
    FUNCTION_GEMMA = ("<start_function_call>", "<end_function_call>", "function_gemma")
    """`call:name{key:<escape>value<escape>}`."""

    @property
    def opening(self) -> str:
        """The mark before a call."""
        return self.value[0]

    @property
    def closing(self) -> str:
        """The mark behind a call."""
        return self.value[1]

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks of this form that a tokenizer may have as a token."""
        if self is ToolCallFormat.KIMI_K3:
            return _XTML  # its marks are made of several tokens
        closing = () if self is ToolCallFormat.MISTRAL else (self.closing,)  # the token that ends every answer
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
    """What stands round the name of a call and round each of its arguments, where these are no JSON object."""

    named: tuple[str, str]
    """Before the name, behind the opening mark or another call, and behind it."""
    key: str
    """Before the key of an argument."""
    key_pattern: str
    """What a key may be, so that it is read again as it was."""
    value: str
    """Between key and value."""
    text_value: str | None = None
    """The same before a text; None where it is no other."""
    end: str
    """Behind a value."""
    text_end: str | None = None
    """The same behind a text."""
    between: str = ""
    """Between two arguments."""
    called: str
    """Behind the last argument."""
    closed: str = ""
    """Between the last call and the closing mark."""
    has_plain_texts: bool = True
    """Whether texts stand as they are, without quotation marks and escapes."""
    strips_texts: bool = True
    """Whether who reads such a text takes the white space at its ends away."""

    def is_plain_text(self, schema: Any) -> bool:
        """Whether a value of this schema stands as it is: who reads the answer goes by the same."""
        return self.has_plain_texts and isinstance(schema, dict) and schema.get("type") == "string"

    def fences(self, form: ToolCallFormat, *, is_text: bool) -> tuple[str, ...]:
        """Marks that no value may hold, since who reads the answer goes by them: they end it, its block, or begin a call."""
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
"""Of those forms that have arguments one by one."""


class ReasoningMarks(enum.Enum):
    """The marks round what a model thinks before it answers."""

    THINK = ("<think>", "</think>")
    """DeepSeek-R1, Qwen3, Phi-4-reasoning, GLM, Kimi K2 and most others."""
    LONGCAT = ("<longcat_think>", "</longcat_think>")
    BARS = ("<|think:start|>", "<|think:end|>")
    MISTRAL = ("[THINK]", "[/THINK]")
    SEED = ("<seed:think>", "</seed:think>")
    GEMMA = ("<|channel>thought", "<channel|>")
    KIMI_K3 = ("<|open|>think<|sep|>", "<|close|>think<|sep|>")
    HARMONY = ("<|channel|>analysis<|message|>", "<|end|>")
    """gpt-oss: everything is on a channel there, and read by that."""

    @property
    def opening(self) -> str:
        """The mark before it."""
        opening: str = self.value[0]
        return opening

    @property
    def closing(self) -> str:
        """The mark behind it."""
        closing: str = self.value[1]
        return closing


@frozen(kw_only=True)
class ReasoningForm:
    """How one model thinks."""

    marks: ReasoningMarks = ReasoningMarks.THINK
    """Every model may begin an answer with these, whatever its template says."""
    is_known: bool = False
    """Whether the model's template or its tokens name these marks."""
    is_opened: bool = False
    """Whether the prompt ends with the opening mark, so that answers begin behind it."""
    has_switch: bool = False
    """Whether the template can be told to leave it out."""
    is_asked_for: bool = False
    """Whether the model thinks only where the template is told so."""

    def as_json(self) -> list[Any]:
        """For a frame of the sandbox."""
        return [self.marks.name, self.is_known, self.is_opened, self.has_switch, self.is_asked_for]

    @classmethod
    def from_json(cls, told: list[Any]) -> ReasoningForm:
        """From what `as_json` made."""
        name, is_known, is_opened, has_switch, is_asked_for = told
        return cls(
            marks=ReasoningMarks[name],
            is_known=is_known,
            is_opened=is_opened,
            has_switch=has_switch,
            is_asked_for=is_asked_for,
        )

    def begins_open(self, *, thinks: bool | None, is_held: bool) -> bool:
        """Whether an answer begins inside of it: ``is_held`` to a form, or told not to think, it does not."""
        wants = not self.is_asked_for if thinks is None else thinks
        return self.is_opened and wants and not is_held
