"""What training a model of the family will take, before it is paid for: memory, operations and hours.

`training` is the file to read first; `models` finds a model by name, `convolutional` counts what tokenizers do on the
meta device, `cards` knows the GPUs, and `command` is `cosmos-posttrain estimate`.
"""
