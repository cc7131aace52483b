"""English words spelled for voices of other languages: people with an accent say them so."""

from __future__ import annotations

from .vocabulary import DIGITS_EN

_OTHERS = "stop yes no help hello pause next open close print cancel mute left right up down"
WORDS = [*DIGITS_EN, *_OTHERS.split()]

_SPELLED = {
    "de": "siero wan tuh sri fohr faif ssix sewen ejt nain "
    "stopp jess no help helloh pohs next opehn klohs print känsel mjuht left reit ap daun",
    "it": "ziro uan tu tri for faiv sics seven eit nain "
    "stop ies nou elp elou pos next oupen clous print chensel miut left rait ap daun",
    "fr": "ziro ouane tou sri fore faïve sixe sévenne éïte naïne "
    "stoppe yesse nau helpe hélo poze nexte opène cloze printe cancelle mioute "
    "lefte raïte ape daoune",
    "es": "siro uan tu zri for faif six seven eit nain "
    "stop yes nou jelp jelou pos next oupen clous print cansel miut left rait ap daun",
    "fi": "siirou wan tuu sri foor faiv siks seven eit nain "
    "stop jes nou help helou poos nekst oupen klous print känsel mjuut left rait ap daun",
    "cs": "zirou uan tú srí fór fajv siks sevn ejt najn "
    "stop jes nou help helou póz nekst oupn klous print kensl mjút left rajt ap daun",
}

SPELLED: dict[str, dict[str, str]] = {
    language: dict(zip(WORDS, words.split(), strict=True)) for language, words in _SPELLED.items()
}
"""By language: the spelling that its voices read as the English word."""
