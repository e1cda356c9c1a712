"""Which language a text is in, by `langdetect`, as IFEval asks it."""

from __future__ import annotations

from selfimprove.errors import ConfigError

__all__ = ["is_language", "need_detector"]


def need_detector() -> None:
    """Raise unless the detector is installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import langdetect
    except ImportError:
        raise ConfigError(
            "IFEval asks for the language of responses: pip install 'selfimprove[ifeval]'"
        ) from None
    # Its guesses are drawn at random; the same text shall always be of the same language.
    langdetect.DetectorFactory.seed = 0


def is_language(text: str, code: str) -> bool:
    """Tell whether a text is in the language; one in which none is found counts as if it were, as published.

    Args:
        text: of any length.
        code: as the detector names it: ISO 639-1, and zh-cn or zh-tw.

    Raises:
        ConfigError: the detector is not installed.
    """
    need_detector()
    from langdetect import LangDetectException, detect

    try:
        return bool(detect(text) == code)
    except LangDetectException:
        return True
