"""Bridges to other people's libraries, one module each. Each needs the extra of its name; nobody imports them here."""
