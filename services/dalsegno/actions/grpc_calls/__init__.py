"""What grpc.call needs: connections, descriptors, conversions and failures."""
