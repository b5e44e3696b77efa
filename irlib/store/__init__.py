"""Where things are, and the only writer: files whole or not at all, figures with provenance."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.store.compare import differences as differences
    from irlib.store.figure import save_figure as save_figure
    from irlib.store.files import ready as ready
    from irlib.store.files import write as write
    from irlib.store.places import added as added
    from irlib.store.places import bundles as bundles
    from irlib.store.places import cache as cache
    from irlib.store.places import checkout as checkout
    from irlib.store.places import figures as figures
    from irlib.store.places import inside as inside
    from irlib.store.places import project as project
    from irlib.store.places import results as results
    from irlib.store.places import root as root

__getattr__, __dir__, __all__ = face(__name__)
