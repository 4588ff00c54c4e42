"""Other people's protocols, spoken so that their tools work with this server as it is."""

from samlet.server.adapters.forms import FORMS

__all__ = ["FORMS"]
