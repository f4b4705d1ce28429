"""Make a supervisor of a released checkpoint, or of a vision and a language model.

examples:
  saga supervisor assemble --checkpoint Qwen3-VL-8B-Instruct --vocabulary birds \\
      --output ~/saga/supervisors/qwen-birds
  saga supervisor assemble --vision clip-vit-large-patch14 --language Phi-3.5-mini-instruct \\
      --output supervisors/clip-l14-phi3.5

The first makes the folder that saga reads of a checkpoint as transformers stores it, weights unchanged. The
second is InstructCIR's backbone, which is published in its two parts only: the projector between them is new,
so train it (`saga cir train instructcir-phi3.5`) before asking anything.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ORDER = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        type=Path,
        help="a checkpoint of Qwen2.5-VL, Qwen3-VL, InternVL3, InternVL3.5, Idefics3, SmolVLM, Gemma 3, "
        "LLaVA or LLaVA-OneVision",
    )
    parser.add_argument("--vision", metavar="DIR", type=Path, help="a checkpoint of CLIP or SigLIP")
    parser.add_argument(
        "--language", metavar="DIR", type=Path, help="a checkpoint of a language model with a chat template"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", type=Path, help="the supervisor's folder; must not exist"
    )
    parser.add_argument(
        "--vocabulary",
        metavar="NAME_OR_TOML",
        help="what it is asked to describe, for prompts with attributes: a vocabulary that ships, or a file",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures that the model reads, for all but LLaVA; default: 224",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the new projector's weights, with --vision; default: 0"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder, then print it."""
    from saga_ray.errors import UserError

    if args.checkpoint is not None and (args.vision, args.language, args.seed) != (None, None, None):
        raise UserError("--checkpoint is a whole model: leave --vision, --language and --seed out")
    if args.checkpoint is None and (args.vision is None or args.language is None):
        raise UserError("give a checkpoint with --checkpoint, or its parts with --vision and --language")
    if args.checkpoint is None and args.image_size is not None:
        raise UserError("the vision model of --vision reads pictures of one size: leave --image-size out")
    output = args.output.expanduser().absolute()
    if output.exists():
        raise UserError(f"--output {args.output} exists; name a folder that does not")

    from saga_ray.models.supervisors import _assemble, _llava_assemble

    if args.checkpoint is not None:
        _assemble.of_checkpoint(args.checkpoint.expanduser(), output, args.vocabulary, args.image_size)
    else:
        vision, language = args.vision.expanduser(), args.language.expanduser()
        _llava_assemble.of_parts(vision, language, output, args.vocabulary, args.seed or 0)
        print("projector    new: train it before asking anything")
    print(f"supervisor   {output}")
    return 0
