"""`python -m controlplane.gateway.kserve.compiling`: write what a process loads of `open_inference.proto`.

Descriptors, not generated code: that would be bound to the version of protobuf that made it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from controlplane.domain.errors import InvalidInput

PROTO = Path(__file__).with_name("open_inference.proto")


def compiled() -> bytes:
    """Return the serialized FileDescriptorSet of the protocol. Raises InvalidInput for a file that is no protocol."""
    from grpc_tools import protoc

    with TemporaryDirectory() as folder:
        made = Path(folder) / "made.binpb"
        status = protoc.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={made}", PROTO.name])
        if status != 0:
            raise InvalidInput(f"cannot compile {PROTO.name}", why="protoc refused it")
        return made.read_bytes()


if __name__ == "__main__":
    made = PROTO.with_suffix(".binpb")
    made.write_bytes(compiled())
    sys.stdout.write(f"{made.name} is current\n")
