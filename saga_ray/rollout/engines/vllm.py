"""vLLM, in this process, driven token by token by its own add_request, step and abort_request, on CPU as on
GPU. Where `rollout.tensor_parallel` shares the language model out, each part computes in a process of its own
(`_vllm_parts`).

``LLM.generate`` would block until all is done and could not cancel. The engine is fed by prompt embeddings,
or by images' own tokens (`_vllm_images`), so only embeddings travel and the frozen language model is loaded
once. What is relied on, each shown by a
test: a completion has its own seed; prefixes are shared between prompts whose *embeddings* are equal and
never otherwise (vLLM hashes them block by block), so the G completions of a prompt compute it once; an
aborted request gives its blocks back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saga_ray.config.settings import RolloutSettings
from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout.engine import Finished, PairRequest, Sampling
from saga_ray.rollout.engines import _vllm_parts
from saga_ray.rollout.engines._prompt import PromptShape, check_prompt
from saga_ray.rollout.engines._vllm_images import ARGUMENTS, image_prompt, replace_processor
from saga_ray.rollout.groups import Completion

CPU_BLOCK = 32
"""Tokens of a cache block on CPU: the fewest that its attention takes, so that most of a short prompt is
shared."""


def build(supervisor: Supervisor, settings: RolloutSettings, prompt_length: int) -> VllmEngine:
    """Raises `UserError` where vLLM is not installed, is built for another device than
    `rollout.gpus_per_actor`, or would read the supervisor's prompts otherwise."""
    if supervisor.images_attend_both_ways:
        raise UserError(
            f"In {supervisor.name} tokens of an image attend to later ones of it, which vLLM does not let "
            "them where it is given embeddings: set rollout.engine=transformers"
        )
    return VllmEngine(
        supervisor.folder / "language_model",
        settings,
        prompt_length=prompt_length,
        shape=PromptShape.of(supervisor),
        image_fields=supervisor.engine_image_fields(),
        eos_token_id=supervisor.eos_token_id,
        dtype=supervisor.language_model.dtype,
        decode=supervisor.decode,
    )


def prepare_environment() -> None:
    """What vLLM reads from the environment when it is imported. Values that the user has set stay."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine lives in this process
    for name, value in {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # pinned threads of two actors would meet on one core
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of Ray's or torch's threads may hang
    }.items():
        os.environ.setdefault(name, value)
    if not torch.cuda.is_available():
        # Else torch compiles a part of vLLM's sampler with the system's C++ compiler, if there is one: 17 s.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


class VllmEngine:
    """See the module. What is beyond `rollout.max_parallel_sequences` completions waits inside vLLM."""

    name = "vllm"

    def __init__(
        self,
        language_model: Path,
        settings: RolloutSettings,
        *,
        prompt_length: int,
        shape: PromptShape,
        image_fields: dict[str, Tensor],
        eos_token_id: int,
        dtype: torch.dtype,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        prepare_environment()
        try:
            import vllm
            from vllm.platforms import current_platform
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise UserError(
                f"vLLM cannot be imported ({error}): install the extra [cpu] or [gpu], "
                "or set rollout.engine=transformers"
            ) from error
        self.version: str = vllm.__version__
        self.prompt_length, self.shape, self.image_fields = prompt_length, shape, image_fields
        self.max_new_tokens = settings.max_new_tokens
        self.eos_token_id, self.dtype, self.decode = eos_token_id, dtype, decode
        _parameters(Sampling.of(settings), seed=0, eos_token_id=eos_token_id)  # is it offered?
        if self._by_images:
            replace_processor(language_model, shape.tokens_per_image)
        if current_platform.is_cpu():
            know_architecture(language_model)
        tokens_per_image = shape.tokens_per_image if self._by_images else None
        threads, set_num_threads = torch.get_num_threads(), torch.set_num_threads
        with _vllm_parts.arguments(settings.tensor_parallel, tokens_per_image) as parts:
            arguments = vllm.EngineArgs(
                model=str(language_model),
                # prompts are no text and answers are decoded by the supervisor; but with images vLLM insists
                skip_tokenizer_init=not self._by_images,
                generation_config="vllm",  # not the model folder's defaults and stop tokens
                dtype=str(dtype).removeprefix("torch."),
                max_model_len=prompt_length + self.max_new_tokens,
                max_num_seqs=settings.max_parallel_sequences,
                enable_prefix_caching=True,
                disable_log_stats=True,
                **parts,
                **(ARGUMENTS if self._by_images else {"enable_prompt_embeds": True}),
                **_device_arguments(settings),
            )
            self._engine: Any = LLMEngine.from_engine_args(arguments)
        torch.set_num_threads = set_num_threads  # vLLM on CPU disables it for the whole process
        torch.set_num_threads(threads)  # and takes one thread where others compute
        self._groups: dict[int, tuple[PairRequest, list[Completion | None]]] = {}

    def submit(self, ticket: int, request: PairRequest) -> None:
        from vllm.inputs import embeds_input

        given = check_prompt(
            request, self.shape, longest=self.prompt_length, longest_answer=self.max_new_tokens
        ).to(self.dtype)
        prompt: Any = embeds_input(given)
        if self._by_images:
            prompt = image_prompt(request.prompt.token_ids, given, self.shape, self.image_fields)
        parameters = [_parameters(request.sampling, seed, self.eos_token_id) for seed in request.seeds]
        self._groups[ticket] = (request, [None] * len(request.seeds))
        for place, of_completion in enumerate(parameters):
            self._engine.add_request(_name(ticket, place), prompt, of_completion)

    @property
    def idle(self) -> bool:
        return not self._groups

    @property
    def _by_images(self) -> bool:
        return self.shape.image_token_id is not None

    def abort(self, ticket: int) -> None:
        if ticket in self._groups:
            _, group = self._groups.pop(ticket)
            self._engine.abort_request(
                [_name(ticket, place) for place, done in enumerate(group) if done is None]
            )

    def step(self) -> list[Finished]:
        finished: list[Finished] = []
        if self.idle:
            return finished
        for output in self._engine.step():
            ticket, place = (int(number) for number in output.request_id.split("-"))
            request, group = self._groups[ticket]
            group[place] = self._completion(output.outputs[0], request.seeds[place])
            whole = [completion for completion in group if completion is not None]
            if len(whole) == len(group):
                del self._groups[ticket]
                finished.append(Finished(ticket, whole))
        return finished

    def close(self) -> None:
        for ticket in list(self._groups):
            self.abort(ticket)
        self._engine.engine_core.shutdown()

    def _completion(self, output: Any, seed: int) -> Completion:
        if output.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"vLLM ended a completion with {output.finish_reason!r}")
        token_ids = list(output.token_ids)
        return Completion(
            token_ids, self.decode(token_ids), list(output.logprobs.logprobs), output.finish_reason, seed
        )


def _parameters(sampling: Sampling, seed: int, eos_token_id: int) -> Any:
    """Raises UserError for what vLLM does not offer."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind

    try:
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
            stop_token_ids=[eos_token_id],
            logprobs=0,  # of the chosen token alone; raw (before temperature and top-p) is vLLM's default
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except VLLMValidationError as error:
        raise UserError(
            f"vLLM does not sample as rollout.temperature and its neighbours ask: {error}"
        ) from error


def _name(ticket: int, place: int) -> str:
    return f"{ticket}-{place}"


def know_architecture(language_model: Path) -> None:
    """Look at the model's class here. vLLM would start a process for that, once a machine: 20 s."""
    from vllm.model_executor.models.registry import ModelRegistry

    config = json.loads((language_model / "config.json").read_text(encoding="utf-8"))
    for architecture in config.get("architectures", []):
        if architecture in ModelRegistry.models:
            ModelRegistry.register_model(architecture, ModelRegistry.models[architecture].load_model_cls())


def _device_arguments(settings: RolloutSettings) -> dict[str, Any]:
    """What differs between a CPU and a GPU."""
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if on_cpu and settings.gpus_per_actor > 0:
        raise UserError(
            f"rollout.gpus_per_actor={settings.gpus_per_actor:g}, but the installed vLLM is built for CPU: "
            "install the extra [gpu], or set it to 0"
        )
    if not on_cpu and settings.gpus_per_actor == 0:
        raise UserError(
            "rollout.gpus_per_actor=0, but the installed vLLM is built for GPUs: "
            "set it to 1, or install the extra [cpu]"
        )
    if on_cpu:
        return {
            "enforce_eager": True,
            "block_size": CPU_BLOCK,
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30) // settings.tensor_parallel,
        }
    return {"gpu_memory_utilization": settings.memory_share}
