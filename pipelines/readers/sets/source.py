"""Where a data set is asked for, and what its owners allow: what a card of gathered rows has to say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """title: what the set is called. asked: who gives it out. licence: its terms in short. publish: what may be shown. splits:
    whether it says who trains and who tests."""

    title: str
    asked: str
    licence: str
    publish: str
    splits: bool = False


SOURCES = {
    "facesynthetics": Source(
        "FaceSynthetics (FAKE)",
        "github.com/microsoft/FaceSynthetics, free download",
        "Research Use of Data Agreement 1.0: research alone, no commerce",
        "pictures in papers; people in them do not exist",
    ),
    "tfake": Source(
        "T-FAKE",
        "github.com/phflot/tfake, free download",
        "as FaceSynthetics, which it derives from; the page says CC BY-NC-SA 4.0",
        "pictures in papers; people in them do not exist",
    ),
    "sejong": Source(
        "Sejong Face Database",
        "its authors at Sejong University, by an agreement",
        "research alone, not to be passed on",
        "only pictures of the people on the set's list of consents",
    ),
    "charlotte": Source(
        "UNCC-ThermalFace (Charlotte)",
        "github.com/TeCSAR-UNCC/UNCC-ThermalFace",
        "for research; the repository has no file of terms",
        "ask the authors",
    ),
    "speakingfaces": Source(
        "SpeakingFaces",
        "issai.nu.edu.kz/download-speaking-faces, by a form",
        "its code is MIT; the data are given on request",
        "as the form says",
        splits=True,
    ),
    "sf-tl54": Source(
        "SF-TL54",
        "huggingface.co/datasets/issai/SFTL54, free download",
        "MIT",
        "with the paper cited",
        splits=True,
    ),
    "tfw": Source(
        "TFW", "huggingface.co/datasets/issai/TFW, free download", "MIT", "with the paper cited", splits=True
    ),
    "tufts": Source(
        "Tufts Face Database",
        "tdface.ece.tufts.edu, free download where the page is up",
        "no commerce, not to be passed on",
        "pictures in papers with the set cited",
    ),
    "vis-th": Source(
        "VIS-TH (EURECOM)",
        "vis-th.eurecom.fr, by a form",
        "research alone, not to be passed on",
        "as the form says",
    ),
    "aachen": Source(
        "High resolution thermal face data set (RWTH Aachen)",
        "github.com/marcinkopaczka/thermalfaceproject, by registration",
        "research alone, not to be passed on",
        "as the registration says",
    ),
    "mcxface": Source(
        "MCXFace and other sets with Idiap's protocol files",
        "www.idiap.ch (Idiap Research Institute), by an agreement",
        "research alone, not to be passed on",
        "as the agreement says",
        splits=True,
    ),
}
"""By layout. `plain` is anybody's."""


def describe(layout: str) -> str:
    """Return a sentence on where the set of a layout comes from and what may be done with it; empty for `plain`."""
    source = SOURCES.get(layout)
    if source is None:
        return ""
    return f"{source.title}: asked for at {source.asked}. Terms: {source.licence}. Published may be: {source.publish}."
