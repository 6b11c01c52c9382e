"""Checks over a history: what an auditor, or any member, believes because it was computed again."""
