"""Values as JSON text and back: contexts, responses and events become what a store keeps.

A floor of values: knows types and texts, no sagas. Inner files import downwards, in this order:
`_codec` > `_converter` > `_records`, `_unions` > `_collections`, `_choices` > `_leaves`, `_flat` > `_secrets` >
`_fields`, `_text` > `_misfit`.
"""

from __future__ import annotations

from ._codec import Codec as Codec
from ._codec import codec_for as codec_for
from ._fields import IN_QUOTES as IN_QUOTES
from ._fields import fields_of as fields_of
from ._fields import has_fields as has_fields
from ._fields import quoted as quoted
from ._misfit import TOO_BIG as TOO_BIG
from ._misfit import type_name as type_name
from ._secrets import SECRET as SECRET
from ._secrets import error_in_words as error_in_words
from ._secrets import redact as redact
from ._secrets import secret as secret
from ._text import digest as digest
from ._text import dumps as dumps
from ._text import fit_error as fit_error
from ._text import is_too_big as is_too_big
