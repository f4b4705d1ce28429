"""Write triplets to train on: a reference picture, an instruction, and what answers it.

From captions, with a language model on vLLM that thinks of an edit for each (--llm); or from a table with
attribute columns, by rule and without a model (--rules).

examples:
  saga cir write-triplets captions.jsonl --llm models/Qwen3-4B --output triplets.jsonl
  saga cir write-triplets captions.jsonl --llm models/Qwen3-4B --output triplets.jsonl --resume
  saga cir write-triplets pictures.csv --rules colour,material --same kind --output triplets.jsonl

Captions: {"image": …, "caption": …} a line, or LLaVA-Pretrain's JSON. Pictures are named in the triplets as
they are in the captions, so write them into the folder that these paths start from; those of a table are
named from the output's folder. What the model answers that is of no use is left out and counted.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

ORDER = 12


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "input",
        metavar="CAPTIONS_OR_TABLE",
        help="captions for --llm; for --rules a table with attribute columns, or a data set's name",
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--llm",
        metavar="PATH_OR_NAME",
        help="a language model that vLLM loads: a folder, a name, a GGUF file",
    )
    how.add_argument("--rules", metavar="A,B,…", help="attribute columns, of which a triplet changes one")
    parser.add_argument(
        "--output", required=True, metavar="JSONL", type=Path, help="the triplets; must not exist"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn; default: 0")
    llm = parser.add_argument_group("with --llm")
    llm.add_argument(
        "--tokenizer", metavar="PATH_OR_NAME", help="the model's tokenizer, if it has none of its own"
    )
    llm.add_argument("--per-caption", type=int, metavar="N", help="edits to ask for of each; default: 1")
    llm.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="Ray actors with a model each, on a GPU each where the cluster has GPUs; default: 1",
    )
    llm.add_argument("--resume", action="store_true", help="go on where an interrupted command stopped")
    rules = parser.add_argument_group("with --rules")
    rules.add_argument(
        "--same", metavar="C,D,…", help="columns, `label` among them, that are equal in all of a triplet"
    )


def run(args: argparse.Namespace) -> int:
    """Write; prints what became of the captions or rows, then the file."""
    from saga_ray.errors import UserError

    output = args.output.expanduser().absolute()
    if output.suffix != ".jsonl":
        raise UserError(f"--output {args.output} must end in .jsonl, as all files of triplets do")
    strange = ("tokenizer", "per_caption", "workers", "resume") if args.rules is not None else ("same",)
    for name in strange:
        if getattr(args, name):
            needed = "--llm" if args.rules is not None else "--rules"
            raise UserError(f"--{name.replace('_', '-')} goes with {needed}; leave it out")
    for name in ("per_caption", "workers"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)} is no number from 1 on")
    return _by_rules(args, output) if args.rules is not None else _by_llm(args, output)


def _by_llm(args: argparse.Namespace, output: Path) -> int:
    from contextlib import redirect_stdout
    from functools import partial

    from saga_ray.composed.writing.job import Writing, describe, write_triplets
    from saga_ray.composed.writing.parts import was_begun
    from saga_ray.composed.writing.pool import on_vllm

    writing = Writing(
        captions=Path(args.input).expanduser(),
        llm=args.llm,
        tokenizer=args.tokenizer,
        per_caption=args.per_caption or 1,
        seed=args.seed,
    )
    say = partial(print, file=sys.stderr, flush=True)
    ask = on_vllm(writing.llm, writing.tokenizer, workers=args.workers or 1, say=say)
    try:
        with redirect_stdout(sys.stderr):
            counts = write_triplets(writing, output, ask, resume=args.resume, say=say)
    except KeyboardInterrupt:
        if not was_begun(output):
            raise
        raise KeyboardInterrupt(f"interrupted; to go on: {_again(args)}") from None
    print(f"captions     {counts.captions:,}, {counts.asked:,} edits asked for")
    print(f"written      {counts.written:,} ({counts.written / counts.asked:.1%})")
    print(
        f"dropped      {counts.asked - counts.written:,}"
        + (f" ({describe(counts)})" if counts.dropped else "")
    )
    print(f"triplets     {output}")
    return 0


def _by_rules(args: argparse.Namespace, output: Path) -> int:
    from collections import Counter

    from saga_ray.composed.writing.rules import write_by_rules

    found, held = write_by_rules(args.input, output, _names(args.rules), _names(args.same or ""), args.seed)
    kinds = Counter(line["kind"] for line in found.lines)
    print(f"written      {len(found.lines):,} ({', '.join(f'{kind}: {n:,}' for kind, n in kinds.items())})")
    reasons = ", ".join(f"{why}: {n:,}" for why, n in found.left_out.most_common())
    print(f"left out     {found.left_out.total():,}" + (f" ({reasons})" if reasons else ""))
    if held:
        print(f"pictures     {held:,} of the table's own, in {output.parent / 'pictures'}")
    if found.outside:
        print(
            f"note         {found.outside:,} references lie outside {output.parent}: their triplets train "
            "but cannot be evaluated; write the file beside the pictures for that"
        )
    print(f"triplets     {output}")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _again(args: argparse.Namespace) -> str:
    words = ["saga", "cir", "write-triplets", args.input, "--llm", args.llm, "--output", str(args.output)]
    for name in ("tokenizer", "per_caption", "workers", "seed"):
        if getattr(args, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return shlex.join([*words, "--resume"])
