"""Labels of public face data in our words, as far as they say the same: what a data set does not label stays untold.

CelebA's 40 binary attributes (Liu et al. 2015) and FairFace's age and gender (arXiv 1908.04913). FairFace's race is no skin
tone and is not mapped; CelebA labels no iris, pose or light.
"""

from collections.abc import Mapping

CELEBA: dict[str, tuple[str, str, str]] = {
    "Male": ("sex", "man", "woman"),
    "Young": ("age", "young", ""),
    "Bald": ("hair_style", "bald", ""),
    "Receding_Hairline": ("hair_style", "receding", ""),
    "Black_Hair": ("hair_colour", "black", ""),
    "Blond_Hair": ("hair_colour", "blond", ""),
    "Brown_Hair": ("hair_colour", "brown", ""),
    "Gray_Hair": ("hair_colour", "grey", ""),
    "Eyeglasses": ("glasses", "clear", "none"),
    "Wearing_Hat": ("headwear", "cap", "none"),
    "No_Beard": ("beard", "none", ""),
    "Goatee": ("beard", "goatee", ""),
    "Mustache": ("beard", "moustache", ""),
    "5_o_Clock_Shadow": ("beard", "stubble", ""),
    "Smiling": ("expression", "smile", ""),
    "Pale_Skin": ("skin_tone", "pale", ""),
}
"""column -> (attribute, word where it is 1, word where it is -1; empty for none)."""
FAIRFACE_AGES = {
    "3-9": "young", "10-19": "young", "20-29": "young", "30-39": "middle-aged", "40-49": "middle-aged",
    "50-59": "middle-aged", "60-69": "elderly", "more than 70": "elderly",
}  # fmt: skip
FAIRFACE_SEXES = {"Male": "man", "Female": "woman"}


def words_of_celeba(row: Mapping[str, int]) -> dict[str, str]:
    """Return the words of a row of `list_attr_celeba.txt` (1, or -1 or 0). An attribute of which two columns say different
    words, as of a moustache beside a goatee, is left out."""
    found: dict[str, set[str]] = {}
    for column, (name, yes, no) in CELEBA.items():
        word = yes if row.get(column, 0) == 1 else no if column in row else ""
        if word:
            found.setdefault(name, set()).add(word)
    return {name: words.pop() for name, words in found.items() if len(words) == 1}


def words_of_fairface(row: Mapping[str, str]) -> dict[str, str]:
    """Return the words of a row of FairFace's `fairface_label_train.csv`; children under three have no word for their age."""
    words = {"age": FAIRFACE_AGES.get(row.get("age", ""), ""), "sex": FAIRFACE_SEXES.get(row.get("gender", ""), "")}
    return {name: word for name, word in words.items() if word}
