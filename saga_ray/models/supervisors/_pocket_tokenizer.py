"""The pocket supervisor's tokenizer: fragments of JSON answers, the prompt's marks, and whole words for
plain text.

Answers are matched first and as they stand (added tokens), so `encode(decode(ids)) == ids` for them. All
other text is lower-cased and cut into words, punctuation and digits; an unknown word becomes `<unk>`. Words
serve captions and instructions, which composed retrieval trains on top of the same language model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from saga_ray.models.supervisors._pocket_scheme import AnswerScheme

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
IMAGE = "<image>"
"""Stands where an image's token is."""
FIRST, SECOND = "<first>", "<second>"
"""Stand before the tokens of image a and image b."""
INSTRUCTIONS = {"attributes": "<describe>", "generic": "<generic>"}
"""The one token that stands for a style's instruction."""
GLUE = "\u2040"
"""Joins a word to the mark before it."""
SPECIAL = (PAD, BOS, EOS, UNKNOWN, IMAGE, FIRST, SECOND, *INSTRUCTIONS.values())

PUNCTUATION = ".,:;!?'\"()[]{}<>-/&+%*=_"
MAX_WORDS = 1600
WORDS_FILE = Path(__file__).with_name("_pocket_words.txt")

_WORD = re.compile(r"[^\W\d_]+")


def split_words(text: str) -> list[str]:
    """The words of a text, lower-cased, without digits and punctuation."""
    return _WORD.findall(text.lower())


def common_words() -> list[str]:
    """The words of captions and instructions that every pocket supervisor knows."""
    lines = WORDS_FILE.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(word for line in lines if not line.startswith("#") for word in line.split()))


def build_tokenizer(scheme: AnswerScheme, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for a scheme's answers that knows the common words and those of `texts`, the most
    frequent first."""
    words = common_words()
    known = set(words)
    described = [
        word
        for name, values in scheme.attributes.items()
        for text in (name, *values)
        for word in split_words(text)
    ]
    frequent = Counter(word for text in texts for word in split_words(text))
    for word in [*described, *sorted(frequent, key=lambda word: (-frequent[word], word))]:
        if word not in known and len(words) < MAX_WORDS:
            known.add(word)
            words.append(word)
    pieces = [*SPECIAL, *scheme.tokens(), "▁", GLUE]
    pieces += [mark for character in PUNCTUATION + "0123456789" for mark in ("▁" + character, character)]
    pieces += ["▁" + word for word in words]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}

    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            # A word has one token, the one after a space: what touches a mark on its left, as in `"red`, is
            # glued to it.
            normalizers.Replace(Regex(r"(?<=[^\s\p{L}])(?=\p{L})"), GLUE + " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
            pre_tokenizers.Split(GLUE, "isolated"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Metaspace(prepend_scheme="always", split=True),
            decoders.Fuse(),
            decoders.Replace(GLUE + " ", ""),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in scheme.tokens()])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
