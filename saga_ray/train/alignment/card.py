"""The model card of a trained supervisor: what it is, what it learned from, how good it is."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.data.table import ImageTable
from saga_ray.models.supervisors.llava import Llava
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.train.alignment.evaluate import SupervisorScores, words_of
from saga_ray.train.alignment.report import AlignmentReport

PARTS = {
    "learned": "classes it learned from",
    "validation": "validation classes (unseen; weights chosen here)",
    "test": "test classes (unseen; looked at once)",
}

ROWS = {
    "verdict, random pairs": "verdict_random",
    "verdict, hard pairs": "verdict_hard",
    "verdict, random pairs, generic style": "generic_random",
    "verdict, hard pairs, generic style": "generic_hard",
    "verdict, pictures exchanged": "verdict_exchanged",
    "verdict, pictures zeroed": "verdict_zeroed",
    "valid answers": "valid",
    "attributes, mean": "attributes_mean",
    "always the commonest value, mean": "commonest_mean",
    "informative groups, temperature 1": "informative_at_1",
    "informative groups, temperature 0.7, top-p 0.95": "informative_at_0_7",
}

INTRODUCTION = """\
A pocket supervisor: a small Llama-type language model that reads the image tokens of two pictures through a
projector, describes both, sums up their differences and says whether they show the same class. It stays
frozen when it teaches an encoder. Load it with `saga_ray.models.supervisors.load`; `language_model/` alone
is an ordinary Hugging Face causal language model. It knows nothing but pictures like those it learned from.

- **Size**: {parameters:,} parameters in language model and projector, {megabytes:.1f} MB with the tower;
  {layers} layers, width {width}, {heads} heads, vocabulary of {words:,}; their weights are float16.
- **Prompt and answer**: {prompt} tokens, answered with {answer} that join to JSON with the keys
  `{item}_1`, `{item}_2`, `differences`, `{verdict}`.
- **Attributes** (values): {attributes}.
"""

PROJECTOR_INTRODUCTION = """\
The tower of `{tower}`, the language model `{language_model}`, and a projector between them, which alone was
trained: it makes the image tokens of two pictures readable to the language model, which describes both, sums
up their differences and says whether they show the same class. It stays frozen when it teaches an encoder.
Load it with `saga_ray.models.supervisors.load`.

- **Size**: {parameters:,} parameters in language model and projector, {megabytes:.1f} MB with the tower;
  {layers} layers, width {width}, {heads} heads. Neither model's weights were changed.
- **Prompt**: {prompt} tokens, in the language model's chat template, answered with JSON with the keys
  `{item}_1`, `{item}_2`, `differences`, `confidence`, `reasoning`, `{verdict}`.
- **Attributes** (values): {attributes}.
"""

TRAINING = """\
## Learned from

`{data}` (data set hash `{data_hash}`): {pictures:,} pictures of the {classes:,} classes of its part(s)
{parts}, never of `validation` or `test`. SHA-256 of the sorted list of these classes:
`{classes_hash}`. {others} was taken from the other classes.

## Recipe

{date}. {frozen} frozen. {steps:,} steps of {pairs} pairs (half same, a quarter different, a quarter different
and alike in {hard}); AdamW {rate:g} with cosine, weight decay {decay:g}; verdict weight {verdict_weight:g};
{own}every {generic}th step in the generic style;
{views} augmented views, noise on tokens and channels; in {mixing:.0%} of the pairs the second picture is
mixed with one that turns the verdict round, the verdict's target with it (mixup).
Seed {seed}, {minutes:.0f} minutes on {threads} thread(s). The weights are those of step {chosen:,},
{why_chosen}.
"""

READING = """\
{count} random pairs and as many hard ones (different classes that agree on {hard}) in each column, half of
them same; likeliest answers. Guessing is right half the time. *Exchanged*: each pair is shown another pair's
pictures. *Zeroed*: all image tokens are zero. *Informative*: groups of 8 sampled answers that hold right and
wrong verdicts, from which GRPO can learn.
"""


def model_card(
    report: AlignmentReport,
    supervisor: Pocket | Llava,
    table: ImageTable,
    settings: AlignmentSettings,
    command: str,
) -> str:
    """The card as Markdown."""
    words, config = words_of(supervisor), supervisor.language_model.config.get_text_config()
    values = {name: len(set(column)) for name, column in table.part(*settings.parts).attributes.items()}
    hard = settings.hard_column or next(iter(words.attributes))
    scored = {title: scores for part, title in PARTS.items() if (scores := getattr(report, part)) is not None}
    is_pocket = isinstance(supervisor, Pocket)
    introduction = (INTRODUCTION if is_pocket else PROJECTOR_INTRODUCTION).format(
        tower=Path(settings.tower).name,
        language_model=Path(settings.language_model or "").name,
        parameters=report.parameters,
        megabytes=report.bytes / 1e6,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        words=config.vocab_size,
        prompt=len(supervisor.prompt_ids("attributes")),
        answer=supervisor.answer_tokens("attributes"),
        item=words.item,
        verdict=words.verdict_key,
        attributes=", ".join(f"{name} ({values[name]})" for name in words.attributes),
    )
    training = TRAINING.format(
        data=table.name,
        data_hash=table.hash,
        parts=" and ".join(f"`{part}`" for part in settings.parts),
        pictures=report.pictures,
        classes=report.classes,
        classes_hash=report.classes_hash,
        date=date.today().isoformat(),
        steps=settings.steps,
        pairs=settings.pairs_per_step,
        hard=hard,
        rate=settings.rate,
        decay=settings.weight_decay,
        verdict_weight=settings.verdict_weight,
        own=f"own sampled answers as context in {settings.own_answers:.0%} of the steps; "
        if is_pocket
        else "",
        frozen="Tower" if is_pocket else "Tower and language model",
        others="The tokenizer also knows the words of all class names; nothing else"
        if is_pocket
        else "Nothing",
        generic=settings.generic_every,
        views=settings.views,
        mixing=settings.mixing,
        seed=settings.seed,
        minutes=report.seconds / 60,
        threads=settings.threads,
        chosen=report.chosen_step,
        why_chosen="best on validation" if report.validation else "the last",
    )
    parts = [f"# {supervisor.name}\n", introduction, training]
    if command:
        parts.append(f"```\n{command}\n```\n")
    parts += ["## Measured\n", _table(scored), READING.format(count=report.learned.pairs, hard=hard)]
    return "\n".join(parts)


def _table(scored: dict[str, SupervisorScores]) -> str:
    lines = ["| % | " + " | ".join(scored) + " |", "|---" * (len(scored) + 1) + "|"]
    for title, field in ROWS.items():
        cells = [f"{100 * getattr(scores, field):.1f}" for scores in scored.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for name in next(iter(scored.values())).attributes:
        cells = [f"{100 * s.attributes[name]:.1f} ({100 * s.commonest[name]:.1f})" for s in scored.values()]
        lines.append(f"| {name} (commonest value) | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
