"""Text of tokenizers like Phi-3's own: SentencePiece's pieces, bytes for what they lack, a space before the first word."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from actors.inference.structured_output import Grammars
from actors.inference.text.byte_fallback import ByteFallback
from actors.inference.text.text_model import CheckpointText
from protocol.commands import ChatMessage, Generate, Role

from .tiny_text import make_tokenizer as make_byte_level

PIECES = ["▁", "a", "b", "ab", "▁ab", "é", "▁é", "東", "\ufffd", "▁▁"]
SPECIAL = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"]
TEMPLATE = (
    "{% for message in messages %}<|user|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FIRST_BYTE, FIRST_PIECE = 3, 259
PADDING = 5
"""Logits beyond the tokenizer's tokens."""


def make_tokenizer() -> Tokenizer:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for token in [*(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]:
        vocabulary[token] = len(vocabulary)
    merges = [("a", "b"), ("▁", "ab"), ("▁", "é"), ("▁", "▁")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(one, special=True, rstrip=True, normalized=False) for one in SPECIAL])
    return tokenizer


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> CheckpointText:
    folder = tmp_path_factory.mktemp("text")
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"vocab_size": tokenizer.get_vocab_size() + PADDING, "max_position_embeddings": 512, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return CheckpointText(folder)


def ids_of(*tokens: str) -> list[int]:
    known = make_tokenizer().get_vocab()
    return [known[one] for one in tokens]


def told(text: CheckpointText, ids: list[int]) -> list[str]:
    """The pieces, and what is left."""
    detokenizer = text.detokenizer()
    return [*(detokenizer.feed(one) for one in ids), detokenizer.finish()]


def text_of(ids: list[int]) -> str:
    """The tokens as bytes, in SentencePiece's notation."""
    content = b""
    for one in ids:
        if one < FIRST_BYTE or one >= FIRST_PIECE + len(PIECES):
            content += {1: b"<s>", 2: b"</s>", 0: b"<unk>"}.get(one, b"")
        elif one < FIRST_PIECE:
            content += bytes([one - FIRST_BYTE])
        else:
            content += PIECES[one - FIRST_PIECE].replace("▁", " ").encode()
    return content.decode("utf-8", "replace").removeprefix(" ")


@settings(max_examples=500)
@given(
    ids=st.lists(
        # Bytes that begin and go on with characters, a line break, a letter, pieces, special tokens, padding.
        st.sampled_from([13, 51, *range(0x80 + 3, 0x90 + 3), 0xC3 + 3, 0xE6 + 3, 0xF0 + 3])
        | st.integers(FIRST_PIECE, FIRST_PIECE + len(PIECES) + len(SPECIAL) + PADDING - 1),
        max_size=16,
    )
)
def test_the_pieces_of_any_tokens_are_the_text_of_their_bytes(text: CheckpointText, ids: list[int]) -> None:
    assert "".join(told(text, ids)) == text_of(ids)


def test_a_line_break_and_half_a_character_are_no_stumbling_block(text: CheckpointText) -> None:
    ids = ids_of("▁ab", "<0x0A>", "<0xF0>", "<0x9F>", "▁ab", "<0x0A>", "<0xC3>", "<0xA9>", "a")
    assert told(text, ids) == ["ab", "\n", "", "", "\ufffd ab", "\n", "", "é", "a", ""]


def test_a_character_of_several_bytes_comes_whole_and_at_once(text: CheckpointText) -> None:
    assert told(text, ids_of("▁ab", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "▁ab"))[1:] == ["", "", "", "😀", " ab", ""]


def test_an_answer_that_ends_in_half_a_character_says_so(text: CheckpointText) -> None:
    assert told(text, ids_of("▁ab", "<0xF0>", "<0x9F>")) == ["ab", "", "", "\ufffd"]


def test_the_space_before_the_first_word_is_none_and_all_others_are(text: CheckpointText) -> None:
    assert "".join(told(text, ids_of("<|assistant|>", "▁ab", "▁ab", "<0xC3>", "<0xA9>", "▁ab"))) == "ab abé ab"


def test_the_prompt_has_its_marks_as_single_tokens(text: CheckpointText) -> None:
    ids = text.encode(Generate(messages=[ChatMessage(Role.USER, "ab é")]))
    assert ids[0] == ids_of("<|user|>")[0]
    assert ids[-1] == ids_of("<|assistant|>")[0], "the line break after a mark belongs to it"


def test_schemas_can_be_held_to_with_such_a_tokenizer(text: CheckpointText, tmp_path: Path) -> None:
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))
    matcher = Grammars(tmp_path / "tokenizer.json", text.vocabulary_size, [2]).matcher({"const": "ö"}, [])
    taken: list[int] = []
    for character in '"ö"':
        for byte in character.encode():
            token_id = FIRST_BYTE + byte
            word, bit = divmod(token_id, 32)
            assert int(matcher.mask()[word]) >> bit & 1, f"byte {byte:#x} may come"
            matcher.take(token_id)
            taken.append(token_id)
    assert "".join(told(text, taken)) == '"ö"'


def test_tokenizers_that_decode_bytes_otherwise_are_left_to_the_library() -> None:
    assert ByteFallback.of(make_byte_level()) is None
    named_only = make_tokenizer()
    named_only.decoder = decoders.Fuse()
    assert ByteFallback.of(named_only) is None


def test_a_decoder_that_takes_back_what_it_said_ends_no_answer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2}, []))
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "x")])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 3, "max_position_embeddings": 9}))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert told(CheckpointText(tmp_path), [0, 1, 2, 2]) == ["a", "", "c", "c", ""]
