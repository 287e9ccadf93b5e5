"""KServe's Open Inference Protocol (v2) over gRPC: texts as tensors, asked of the gateway's own pipeline.

Here: the protocol, its tensors, the port. Not here: who may ask what, and every other stage. Needs the extra `grpc`;
nothing of it is loaded where no port is given.
"""
