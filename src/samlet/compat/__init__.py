"""Drop-ins: the interfaces of other libraries, on samlet."""
