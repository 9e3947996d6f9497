"""The batch on MLX: chunked prefill, one forward pass that decodes all rows, and removal of finished rows.

Replaces mlx-lm's `BatchGenerator` over the same models and batched caches, because that one shares a random number
generator among rows, computes a token past each end, and keeps log-probabilities of the whole vocabulary.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache

from actors.inference.free_calls import FreeCallMatcher
from actors.inference.mlx.load import LoadedModel
from actors.inference.structured_output import AnyMatcher, Grammars, GrammarsAtNeed
from actors.inference.worker.blas import blas_threads
from actors.inference.worker.prefill import Prefill, begin_prefill, drop_rows, row_ids, row_length
from actors.inference.worker.prefill_policy import PrefillBudget, PrefillFirstPolicy, Waiting, read_together
from actors.inference.worker.prefix_cache import PrefixCache, copied_prompt, one_of_each, shared_length
from actors.inference.worker.prompt_scores import scored
from actors.inference.worker.sampler import check_token_ids, sample
from actors.inference.worker.speculative_decoding import DRAFT_TOKENS, SpeculativeDecoder, verified
from actors.inference.worker.stepper import Row
from actors.inference.worker.thread_autotuner import ThreadAutotuner
from actors.inference.worker_frames import Finish, RowFailure, SampledToken, StepOutput
from actors.process_memory import resident_bytes

__all__ = ["MlxStepper"]

LOOKED_AT = 64
"""Number of waiting rows considered for reading together with the first."""


class MlxStepper:
    """Owns model, caches and rows. Every call must come from the thread that created it."""

    def __init__(
        self,
        loaded: LoadedModel,
        report: dict[str, Any],
        grammars: Grammars | GrammarsAtNeed | None,
        *,
        prefix_bytes: int,
        drafter: SpeculativeDecoder | None = None,
    ) -> None:
        """``grammars`` may be None for a model without a tokenizer; a ``prefix_bytes`` of 0 disables the prefix cache.

        Without a ``drafter`` each step emits one token per row.
        """
        self._model = loaded.model
        self._layers = len(loaded.model.layers)
        self._vocabulary_size = loaded.vocabulary_size
        self._report = report
        self._grammars = grammars
        self._owner = threading.get_ident()
        self._waiting: deque[Row] = deque()
        self._prefill: Prefill | None = None
        self._rows: list[Row] = []
        self._cache: list[BatchKVCache] = []
        self._matchers: dict[int, AnyMatcher] = {}
        self._kept = PrefixCache(prefix_bytes)
        self._keeps_prefixes = prefix_bytes > 0
        self._budget = PrefillBudget()
        self._prefill_first = PrefillFirstPolicy()
        self._reads_beside = loaded.threads is not None
        """True if one pass may both read prompts and decode rows: compiled code computes both."""
        self._just_began: set[int] = set()
        """Rows that have emitted only their first token."""
        self._speculative_decoder = drafter
        # Threads of compiled code do not wait for a late one, so the full number of them is always right.
        self._blas = blas_threads() if loaded.threads is None else None
        self._ladder = ThreadAutotuner(1 if self._blas is None else self._blas.most)

    def report(self) -> dict[str, Any]:
        """Describes the loaded model and the checks it passed."""
        return self._report

    def prepare(self, row: Row) -> AnyMatcher | None:
        """Builds the matcher that a row needs, advanced past its emitted tokens. Callable from any thread. Raises `ValueError`
        for a bad schema."""
        followed = row.response_schema if row.call_rule is None else row.call_rule
        if followed is None:
            if row.free_calls is None or self._grammars is None:
                return None
            return self._grammars.free_calls(row.free_calls, row.emitted_ids)
        if self._grammars is None:
            raise ValueError("this model cannot follow schemas")
        return self._grammars.matcher(followed, row.emitted_ids)

    def admit(self, row: Row, matcher: AnyMatcher | None = None) -> None:
        """Queues a row for prefill, with the result of `prepare`. Raises `ValueError` for an empty prompt."""
        self._check_thread()
        if not row.prompt_ids:
            raise ValueError("an empty prompt")
        check_token_ids(row_ids(row), self._vocabulary_size)
        if matcher is not None:
            self._matchers[row.row] = matcher
        self._waiting.append(row)

    def cancel(self, row: int) -> None:
        """Drops a row from the queue, the prefill or the batch; the part of its prompt that was read stays cached."""
        self._check_thread()
        self._matchers.pop(row, None)
        self._waiting = deque(one for one in self._waiting if one.row != row)
        if self._prefill is not None and any(one.row == row for one in self._prefill.rows):
            self._shrink_prefill(self._prefill, [one.row != row for one in self._prefill.rows])
        self._go_on_with([index for index, one in enumerate(self._rows) if one.row != row])

    def clear(self) -> None:
        """Drops all rows."""
        self._check_thread()
        self._waiting.clear()
        self._matchers.clear()
        self._just_began.clear()
        self._prefill = None
        self._go_on_with([])

    def has_work(self) -> bool:
        """True if a step has something to compute."""
        return bool(self._rows or self._waiting or self._prefill)

    def step(self) -> StepOutput:
        """Emits one token for each row in the batch, several if drafts were right, and reads at most one chunk of prompts.

        Rows pause while the rest of their burst is being read (`PrefillFirstPolicy`).
        """
        self._check_thread()
        began, processor_began = time.perf_counter(), time.process_time()
        is_pause = self._is_pause()
        decoding_rows = 0 if is_pause else len(self._rows)
        result = self._step(decoding_rows)
        self._grow_ahead()
        taken = time.perf_counter() - began
        if is_pause:
            self._prefill_first.waited(taken)
        shape = (decoding_rows, result.prefilled_tokens + result.drafted_tokens)
        self._ladder.stepped(shape, taken, time.process_time() - processor_began)
        if self._blas is not None:
            self._blas.use(self._ladder.threads)
        return result

    def _is_pause(self) -> bool:
        all_just_began = bool(self._rows) and all(row.row in self._just_began for row in self._rows)
        return self._prefill_first.waits(
            all_just_began=all_just_began,
            unread_tokens=self._unread_tokens() if all_just_began else 0,
            token_seconds=self._budget.large_chunk_token_seconds,
        )

    def _unread_tokens(self) -> int:
        """Unread tokens of all prompts that wait or are being read."""
        reading = self._prefill
        unread = 0 if reading is None else len(reading.rows) * (reading.columns - reading.done)
        return unread + sum(row_length(row) - self._known(row) for row in self._waiting)

    def _step(self, decoding_rows: int) -> StepOutput:
        result = StepOutput()
        if decoding_rows:
            result.rows.extend(row.row for row in self._rows)
        if self._prefill is None and self._waiting:
            self._begin_prefill(result)
        prefill = self._prefill
        if decoding_rows and prefill is not None and self._reads_beside:
            if self._budget.knows_decoding_of(decoding_rows):
                self._read_and_decode(prefill, result)
            else:
                self._decode(result)
            return result
        if decoding_rows:
            self._decode(result)
        if prefill is not None:
            self._read(prefill, result, decoding_rows=min(decoding_rows, len(self._rows)))
        return result

    def _grow_ahead(self) -> None:
        if self._rows and self._cache[0].keys is not None and hasattr(self._model, "grow_ahead"):
            to_come = max(row.max_tokens - len(row.emitted_ids) for row in self._rows)
            self._model.grow_ahead(self._cache, to_come, 1 + DRAFT_TOKENS if len(self._rows) == 1 else 1)

    def _decode(self, result: StepOutput) -> None:
        self._just_began.clear()
        is_alone = len(self._rows) == 1 and self._prefill is None and not self._waiting
        draft = (
            self._speculative_decoder.draft(self._rows[0])
            if self._speculative_decoder is not None and is_alone and self._is_idle(self._rows[0])
            else []
        )
        began, decoding_rows = time.perf_counter(), len(self._rows)
        # Only a row that decodes alone has a draft.
        logits = self._model(mx.array([[row.emitted_ids[-1], *draft] for row in self._rows]), cache=self._cache)
        if draft:
            going_on = self._emit_drafted(logits[0], draft, result)
        else:
            going_on = self._emit(logits[:, -1], self._rows, result)
        self._go_on_with(going_on)
        seconds = time.perf_counter() - began
        if not draft:
            # The time of a drafted step does not predict how long others wait while a prompt is read.
            self._budget.decoded(seconds, decoding_rows)
        if self._speculative_decoder is not None and draft:
            self._speculative_decoder.gate.drafted(seconds, len(result.emitted))
        elif self._speculative_decoder is not None and is_alone:
            self._speculative_decoder.gate.plain(seconds)

    def memory(self) -> dict[str, float]:
        """Bytes in use, by purpose."""
        return {
            "resident": resident_bytes(),
            "weights": float(self._report.get("parameter_bytes", 0)),
            "mlx_active": float(mx.get_active_memory()),
            "mlx_pool": float(mx.get_cache_memory()),
            "kv": float(sum(one.nbytes for one in self._caches())),
            "prefixes": float(self._kept.bytes),
        }

    def _caches(self) -> list[BatchKVCache]:
        """Caches of the batch and of the prompts being read."""
        reading = [] if self._prefill is None else self._prefill.cache
        return [one for one in [*self._cache, *reading] if one.keys is not None]

    # --- prefill ----------------------------------------------------------------------------------

    def _begin_prefill(self, result: StepOutput) -> None:
        """Starts reading the next prompt, grouped with others of similar unread length, each after its cached prefix."""
        looked_at = [self._waiting.popleft() for _ in range(min(LOOKED_AT, len(self._waiting)))]
        known = [self._known(row) for row in looked_at]
        readable = one_of_each(looked_at, known)
        group = read_together([Waiting(row_length(looked_at[index]), known[index]) for index in readable])
        chosen = {readable[index] for index in group}
        rows = [looked_at[index] for index in sorted(chosen)]
        left = set(range(len(looked_at))) - chosen
        self._waiting.extendleft(looked_at[index] for index in sorted(left, reverse=True))
        kept = self._kept_of(rows)
        self._prefill = begin_prefill(rows, kept, self._layers)
        if hasattr(self._model, "reserve"):
            self._model.reserve(self._prefill.cache, len(rows), self._prefill.columns)
        result.cached.extend((row.row, known) for row, known in zip(rows, self._prefill.known, strict=True) if known)

    def _known(self, row: Row) -> int:
        if row.prompt_alternatives is not None:
            return 0  # a cached prefix has no scores of its tokens
        kept = self._kept.known(row.domain, row_ids(row)) if self._keeps_prefixes else 0
        return max(kept, shared_length(row, self._rows))

    def _kept_of(self, rows: list[Row]) -> list[mx.array | None]:
        """The longest known prefix of each row: copied from a row of the batch with the same prompt, or from the prefix
        cache."""
        copies: dict[bytes, mx.array | None] = {}
        kept: list[mx.array | None] = []
        for row in rows:
            if row.prompt_alternatives is not None:
                kept.append(None)
                continue
            found = self._kept.find(row.domain, row_ids(row)) if self._keeps_prefixes else None
            if shared_length(row, self._rows) > (0 if found is None else found.shape[2]):
                if row.prompt_key not in copies:
                    copies[row.prompt_key] = copied_prompt(row, self._rows, self._cache)
                found = copies[row.prompt_key]
            kept.append(found)
        return kept

    def _chunk(self, prefill: Prefill, result: StepOutput, *, decoding_rows: int) -> mx.array:
        """Takes the tokens (rows, length) that this step reads, and counts them as read."""
        reading = len(prefill.rows)
        budget = self._budget.tokens(
            decoding_rows=decoding_rows, reading_rows=reading + len(self._waiting), chunks_read=prefill.chunks
        )
        end = min(prefill.columns, prefill.done + max(1, budget // reading))
        chunk = prefill.tokens[:, prefill.done : end]
        prefill.done = end
        prefill.chunks += 1
        result.rows.extend(row.row for row in prefill.rows)
        unread = prefill.columns - end
        result.reading = [(row.row, max(0, row_length(row) - unread)) for row in prefill.rows]
        result.prefilled_tokens = chunk.size
        return chunk

    def _read(self, prefill: Prefill, result: StepOutput, *, decoding_rows: int) -> None:
        """Reads one chunk; once the prompts are complete, emits their first tokens and adds the rows to the batch."""
        began, first = time.perf_counter(), prefill.done
        hidden = self._model.model(self._chunk(prefill, result, decoding_rows=decoding_rows), cache=prefill.cache)
        result.scored += scored(prefill, first, hidden, self._head)
        if prefill.done < prefill.columns:
            mx.eval([(one.keys, one.values) for one in prefill.cache])
        else:
            # Only the scores of the last position are needed, and the head costs more than a layer.
            self._begin_rows(prefill, self._head(hidden[:, -1:])[:, -1], result)
        self._budget.read(time.perf_counter() - began, result.prefilled_tokens)

    def _read_and_decode(self, prefill: Prefill, result: StepOutput) -> None:
        """Like `_read`, and decodes a token for each row of the batch in the same pass."""
        self._just_began.clear()
        began, decoding_rows, first = time.perf_counter(), len(self._rows), prefill.done
        chunk = self._chunk(prefill, result, decoding_rows=decoding_rows)
        last = mx.array([[row.emitted_ids[-1]] for row in self._rows])
        read, decoded = self._model.states_of_both((chunk, prefill.cache), (last, self._cache))
        result.scored += scored(prefill, first, read, self._head)
        is_read = prefill.done == prefill.columns
        wanted = [decoded[:, -1], read[:, -1]] if is_read else [decoded[:, -1]]
        logits = self._head(mx.concatenate(wanted))
        self._go_on_with(self._emit(logits[:decoding_rows], self._rows, result))
        if is_read:
            self._begin_rows(prefill, logits[decoding_rows:], result)
        self._budget.read_beside(time.perf_counter() - began, result.prefilled_tokens)

    def _begin_rows(self, prefill: Prefill, logits: mx.array, result: StepOutput) -> None:
        """Samples the first token of each completed prompt from ``logits`` (rows, vocabulary)."""
        self._prefill = None
        self._join(prefill, self._emit(logits, prefill.rows, result))

    def _shrink_prefill(self, prefill: Prefill, wanted: list[bool]) -> None:
        """Removes rows from a prefill in progress, along with the padding that only they needed."""
        indexes = [index for index, keep in enumerate(wanted) if keep]
        for index, keep in enumerate(wanted):
            if not keep:
                self._keep_prefix(prefill.rows[index], prefill.cache, index)
        if not indexes:
            self._prefill = None
        elif not drop_rows(prefill, indexes):
            self._waiting.extendleft(reversed(prefill.rows))
            self._prefill = None

    def _head(self, hidden: mx.array) -> Any:
        model = self._model
        if hasattr(model, "project"):
            return model.project(hidden)
        if model.args.tie_word_embeddings:
            return model.model.embed_tokens.as_linear(hidden)
        return model.lm_head(hidden)

    def _join(self, prefill: Prefill, indexes: list[int]) -> None:
        """Adds rows whose prompt is complete to the batch; caches the prompts of those that ended with their first token."""
        for index in set(range(len(prefill.rows))) - set(indexes):
            self._keep_prefix(prefill.rows[index], prefill.cache, index)
        if not indexes:
            return
        if len(indexes) < len(prefill.rows):
            _filter(prefill.cache, indexes)
        if self._rows:
            for own, other in zip(self._cache, prefill.cache, strict=True):
                own.extend(other)
        else:
            self._cache = prefill.cache
        self._rows.extend(prefill.rows[index] for index in indexes)
        joined = (prefill.rows[index] for index in indexes)
        # A row resumed after a worker's death had been decoding before.
        self._just_began.update(row.row for row in joined if len(row.emitted_ids) == 1)

    # --- rows -------------------------------------------------------------------------------------

    def _emit(self, logits: mx.array, rows: list[Row], result: StepOutput) -> list[int]:
        """Samples a token for each row; returns the indexes of rows that continue."""
        sampled = sample(logits, rows, self._matchers)
        going_on: list[int] = []
        for index, row in enumerate(rows):
            reason = sampled.failed.get(index)
            if reason is None:
                token = sampled.token_ids[index]
                finish = self._take(row, token)
                if isinstance(finish, ValueError):
                    reason = RowFailure.of(finish)
                else:
                    own, others = sampled.log_probabilities[index], sampled.alternatives[index]
                    result.emitted.append(SampledToken(row.row, token, own, finish, others))
                    if finish is None:
                        going_on.append(index)
                        continue
            if reason is not None:
                result.failed.append((row.row, reason))
            self._matchers.pop(row.row, None)
        return going_on

    def _emit_drafted(self, logits: mx.array, draft: list[int], result: StepOutput) -> list[int]:
        """Emits the tokens that the model chose after the only row's last token and after each drafted one.

        ``logits`` is (1 + drafted, vocabulary). Each log-probability belongs to its own position, as if the tokens had been
        computed one by one.
        """
        (row,) = self._rows
        following = verified(logits, draft, row)
        finish: Finish | ValueError | None = None
        for token, own in following:
            finish = self._take(row, token)
            assert not isinstance(finish, ValueError), "a row that follows a schema has no draft"
            result.emitted.append(SampledToken(row.row, token, own, finish))
            if finish is not None or not self._is_idle(row):
                break
        emitted = len(result.emitted)
        # The cache keeps the previous last token and every emitted token except the last.
        for one in self._cache:
            one.trim(1 + len(draft) - emitted)
        result.drafted_tokens, result.accepted_tokens = len(draft), min(emitted, len(following) - 1)
        return [0] if finish is None else []

    def _is_idle(self, row: Row) -> bool:
        """True if the row's next token is unconstrained in every case."""
        matcher = self._matchers.get(row.row)
        return matcher is None or (isinstance(matcher, FreeCallMatcher) and matcher.is_idle)

    def _take(self, row: Row, token: int) -> Finish | ValueError | None:
        """Records a row's token. Returns the reason the row ends, an error of its schema, or None."""
        row.emitted_ids.append(token)
        if token in row.stop_ids:
            return "stop"
        matcher = self._matchers.get(row.row)
        if matcher is not None:
            try:
                matcher.take(token)
            except ValueError as error:
                return error
        return "length" if len(row.emitted_ids) >= row.max_tokens else None

    def _go_on_with(self, indexes: list[int]) -> None:
        """Keeps these rows in the batch; caches the prefixes of the others and frees their memory."""
        if len(indexes) == len(self._rows):
            return
        going_on = set(indexes)
        for index, row in enumerate(self._rows):
            if index not in going_on:
                self._keep_prefix(row, self._cache, index)
        self._rows = [self._rows[index] for index in indexes]
        if indexes:
            _filter(self._cache, indexes)
        else:
            self._cache = []
            if self._speculative_decoder is not None:
                self._speculative_decoder.forget()

    def forget_prefixes(self) -> None:
        """Drops all cached prefixes."""
        self._check_thread()
        self._kept.shrink(0)

    def _keep_prefix(self, row: Row, cache: list[BatchKVCache], index: int) -> None:
        """Caches a row's keys and values for prompts with the same beginning."""
        if self._keeps_prefixes and cache and cache[0].keys is not None:
            length = int(cache[0].offset[index].item())
            self._kept.keep(row.domain, row_ids(row), cache, index, length)

    def _check_thread(self) -> None:
        if threading.get_ident() != self._owner:
            raise RuntimeError("MLX objects belong to the thread that made them")


def _filter(cache: list[BatchKVCache], indexes: list[int]) -> None:
    keep = mx.array(indexes)
    for one in cache:
        one.filter(keep)
