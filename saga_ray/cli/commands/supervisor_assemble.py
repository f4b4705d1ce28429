"""Make a LLaVA supervisor of a LLaVA checkpoint, or of a vision and a language model.

examples:
  saga supervisor assemble --llava llava-1.5-7b-hf --vocabulary birds --output ~/saga/supervisors/llava-birds
  saga supervisor assemble --vision clip-vit-large-patch14 --language Phi-3.5-mini-instruct \\
      --output ~/saga/supervisors/instructcir-phi3.5

The first takes a checkpoint of transformers' LlavaForConditionalGeneration apart into the folder that
saga reads, weights unchanged. The second is InstructCIR's backbone, which is published in its two parts only:
the projector between them is new, so train it (`saga cir train instructcir-phi3.5`) before asking anything.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ORDER = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--llava", metavar="DIR", type=Path, help="a checkpoint of LLaVA")
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
        "--seed", type=int, metavar="N", help="of the new projector's weights, with --vision; default: 0"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder, then print it."""
    from saga_ray.errors import UserError

    if args.llava is not None and (args.vision, args.language, args.seed) != (None, None, None):
        raise UserError("--llava is a whole model: leave --vision, --language and --seed out")
    if args.llava is None and (args.vision is None or args.language is None):
        raise UserError("give a checkpoint with --llava, or its parts with --vision and --language")
    output = args.output.expanduser().absolute()
    if output.exists():
        raise UserError(f"--output {args.output} exists; name a folder that does not")

    from saga_ray.models.supervisors import _llava_assemble as assemble

    if args.llava is not None:
        assemble.of_checkpoint(args.llava.expanduser(), output, output.name, args.vocabulary)
    else:
        vision, language = args.vision.expanduser(), args.language.expanduser()
        assemble.of_parts(vision, language, output, output.name, args.vocabulary, args.seed or 0)
        print("projector    new: train it before asking anything")
    print(f"supervisor   {output}")
    return 0
