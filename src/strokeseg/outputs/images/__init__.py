"""Images of a result: key slices, montage, planes, 3D views."""
