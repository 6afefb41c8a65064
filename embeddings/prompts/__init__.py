"""Untrusted texts as token ids: chat template, truncation, answers, pairs."""
