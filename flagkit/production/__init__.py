"""Testing in production: gates, guards and what they report, against a small protocol that ``Client`` satisfies."""
