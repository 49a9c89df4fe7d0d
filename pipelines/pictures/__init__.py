"""Pictures: bytes opened with care (`open`), made square (`square`), and encoded (`codecs`)."""
