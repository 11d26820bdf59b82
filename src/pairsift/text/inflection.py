"""English inflection as far as it is simple: the lemma and form of a word, and another word in that form."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from pairsift.text.wordnet_files import WordNetFiles

Form = Literal["base", "plural", "third", "past", "ing", "comparative", "superlative"]
FORMS: dict[str, tuple[Form, ...]] = {
    "n": ("base", "plural"),
    "v": ("base", "third", "past", "ing"),
    "a": ("base", "comparative", "superlative"),
    "r": ("base",),
}
# WordNet's rules of detachment (morphy(7)).
_ENDINGS = {
    "n": [("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
          ("ies", "y")],
    "v": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "a": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "r": [],
}  # fmt: skip
_HISSING = ("s", "x", "z", "ch", "sh")
_VOWELS = "aeiou"
_NO_MEN = ("caiman", "german", "human", "ottoman", "roman", "shaman", "talisman")
# Longer adjectives are compared by "more" and "most".
_LONGEST_COMPARED = 6


class Inflection:
    """Lemmas and forms by a WordNet's lists of exceptions, and rules.

    Args:
        files: whose lists they are.
    """

    def __init__(self, files: WordNetFiles) -> None:
        self.files = files
        self._irregular: dict[tuple[str, str], list[str]] = defaultdict(list)
        for part, exceptions in files.exceptions.items():
            for form, lemmas in exceptions.items():
                for lemma in lemmas:
                    self._irregular[part, lemma].append(form)

    def readings(self, word: str) -> list[tuple[str, str, Form]]:
        """(part of speech, lemma, form) of a lower-case word in every way that WordNet lists it."""
        found: list[tuple[str, str, Form]] = []
        for part, endings in _ENDINGS.items():
            if (part, word) in self.files:
                found.append((part, word, "base"))
            lemmas = list(self.files.exceptions[part].get(word, ()))
            if not lemmas:
                lemmas = [word[: -len(old)] + new for old, new in endings if word.endswith(old)]
            found += [
                (part, lemma, _form(part, word))
                for lemma in dict.fromkeys(lemmas)
                if lemma != word and (part, lemma) in self.files
            ]
        return found

    def inflected(self, lemma: str, part: str, form: Form) -> str:
        """A lemma in a form; of several words, a noun's last and a verb's first is inflected.

        Args:
            lemma: its words apart by spaces.
            part: of speech, n, v, a or r.
            form: one of `FORMS[part]`.
        """
        if form == "base":
            return lemma
        words = lemma.split(" ")
        at = 0 if part == "v" else -1
        words[at] = self._one(words[at], part, form)
        return " ".join(words)

    def _one(self, word: str, part: str, form: Form) -> str:
        irregular = [each for each in self._irregular.get((part, word), ()) if _form(part, each) == form]
        if irregular:
            # Of a past and a participle ("went", "gone") the past serves; the participle ends in n.
            return min(irregular, key=lambda each: (form == "past" and each.endswith(("n", "ne")), len(each)))
        return _by_rule(word, form)


def _form(part: str, word: str) -> Form:
    """The form of an inflected word of a part of speech."""
    if part == "n":
        return "plural"
    if part == "a":
        return "superlative" if word.endswith("st") else "comparative"
    return "ing" if word.endswith("ing") else "third" if word.endswith("s") else "past"


def _by_rule(word: str, form: Form) -> str:
    consonant_y = word.endswith("y") and word[-2:-1] not in tuple(_VOWELS)
    if form == "plural" and word.endswith("man") and word not in _NO_MEN:
        return word[:-2] + "en"
    if form == "third" and word.endswith("o"):
        return word + "es"
    if form in ("plural", "third"):
        return word[:-1] + "ies" if consonant_y else word + ("es" if word.endswith(_HISSING) else "s")
    if form == "ing":
        return (word[:-1] if word.endswith("e") and not word.endswith(("ee", "oe", "ye")) else word) + "ing"
    if form in ("comparative", "superlative") and len(word) > _LONGEST_COMPARED:
        return ("more " if form == "comparative" else "most ") + word
    ending = {"past": "ed", "comparative": "er", "superlative": "est"}[form]
    stem = word[:-1] + "i" if consonant_y else word[:-1] if word.endswith("e") else word
    return stem + ending
