"""Texts: vocabularies, files of tokens, and the order in which TextData goes through them."""
