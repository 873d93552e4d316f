"""What schemathesis does not know by itself: it reads this file in its own process."""

import schemathesis

# Bytes of an upload in pieces are bytes.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
