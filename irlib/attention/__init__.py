"""Where attention goes: shares by segment, whole matrices, and tokens that take it unasked."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.attention.flow import attention_flow as attention_flow
    from irlib.attention.matrices import AttentionMaps as AttentionMaps
    from irlib.attention.matrices import attention_map as attention_map
    from irlib.attention.sinks import sink_tokens as sink_tokens

__getattr__, __dir__, __all__ = face(__name__)
