"""A language model on vLLM, in this process, that answers batches of chats; on CPU as on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from saga_ray.composed.writing.edits import Question
from saga_ray.errors import UserError
from saga_ray.prompts import edits
from saga_ray.rollout.engines.vllm import CPU_BLOCK, know_architecture, prepare_environment

CONTEXT = 2048
"""Tokens of a prompt and its answer."""
TEMPERATURE, TOP_P = 0.7, 0.95
ON_CPU = 64, 2 * 2**30
"""Sequences at the same time and bytes of their cache; on a GPU vLLM takes what is there."""


class Llm:
    """A model that vLLM loads, with the chat template of its tokenizer."""

    def __init__(self, model: str, tokenizer: str | None, threads: int) -> None:
        """`threads`: arithmetic threads on CPU.

        Raises:
            UserError: vLLM is not installed or cannot load the model, or the model has no chat template.
        """
        torch.set_num_threads(threads)
        prepare_environment()
        try:
            import vllm
            from vllm.platforms import current_platform
        except ImportError as error:
            raise UserError(f"vLLM cannot be imported ({error}): install the extra [cpu] or [gpu]") from error
        device = {}
        if current_platform.is_cpu():
            sequences, cache = ON_CPU
            device = {
                "enforce_eager": True,
                "block_size": CPU_BLOCK,
                "max_num_seqs": sequences,
                "kv_cache_memory_bytes": cache,
            }
            if Path(model).is_dir():
                know_architecture(Path(model))
        try:
            self._llm = vllm.LLM(
                model=model,
                tokenizer=tokenizer,
                max_model_len=CONTEXT,
                generation_config="vllm",  # not the model folder's own sampling
                enable_prefix_caching=True,  # the examples are computed once
                distributed_executor_backend="uni",
                disable_log_stats=True,
                **device,
            )
        except Exception as error:  # vLLM and transformers raise any kind for a model they do not know
            raise UserError(
                f"vLLM cannot load the language model {model}: {_last_line(error)}; give a folder, a GGUF "
                "file, or a hub's name together with HF_HUB_OFFLINE=0 in the environment"
            ) from error
        self._tokenizer = self._llm.get_tokenizer()
        if not getattr(self._tokenizer, "chat_template", None):
            raise UserError(
                f"the language model {model} has no chat template; take one that is trained to follow "
                "instructions, or name a --tokenizer that has one"
            )

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """An answer each; None where a question is too long for the context."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import StructuredOutputsParams

        answers: list[str | None] = [None] * len(questions)
        asked, prompts, parameters = [], [], []
        for place, question in enumerate(questions):
            token_ids = self._tokenizer.apply_chat_template(
                question.messages,
                add_generation_prompt=True,
                enable_thinking=False,  # for templates that know it; others leave it alone
                return_dict=False,
            )
            if len(token_ids) + question.longest > CONTEXT:
                continue
            asked.append(place)
            prompts.append(TokensPrompt(prompt_token_ids=token_ids))
            parameters.append(
                SamplingParams(
                    temperature=TEMPERATURE,
                    top_p=TOP_P,
                    max_tokens=question.longest,
                    seed=question.seed,
                    structured_outputs=StructuredOutputsParams(json=edits.schema()),
                )
            )
        if asked:
            outputs = self._llm.generate(prompts, parameters, use_tqdm=False)
            for place, output in zip(asked, outputs, strict=True):
                answers[place] = output.outputs[0].text
        return answers


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
