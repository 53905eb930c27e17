"""Prints one message of each kind of `simulator.v1` as protobuf's own library writes it, in hex, and
the compiled descriptor as text: what tests/remote/golden.txt pins.

Usage: golden.py GENERATED_DIR
"""

import sys

sys.path.insert(0, sys.argv[1])

from google.protobuf import descriptor_pool  # noqa: E402
from google.protobuf.descriptor import FieldDescriptor as Field  # noqa: E402
from google.protobuf.message_factory import GetMessageClass  # noqa: E402
from simulator.v1 import orchestrator_pb2  # noqa: E402,F401

FILES = ["common", "device", "telemetry", "orchestrator"]
TYPES = {
    getattr(Field, name): name.removeprefix("TYPE_").lower()
    for name in dir(Field)
    if name.startswith("TYPE_")
}


def filled(descriptor, depth=0):
    """A message with a value in every field; of a oneof the last one stays."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        number = field.number
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.message_type:
                if depth < 2:
                    getattr(message, field.name)["k"].CopyFrom(
                        filled(value.message_type, depth + 1)
                    )
            elif value.type == Field.TYPE_STRING:
                getattr(message, field.name)["k"] = f"v{number}"
            else:
                getattr(message, field.name)["k"] = 100 + number
        elif field.message_type:
            if depth < 4:
                inner = filled(field.message_type, depth + 1)
                if field.is_repeated:
                    getattr(message, field.name).append(inner)
                else:
                    getattr(message, field.name).CopyFrom(inner)
        else:
            value = {
                Field.TYPE_STRING: f"{field.name}",
                Field.TYPE_BOOL: True,
                Field.TYPE_DOUBLE: number + 0.5,
                Field.TYPE_ENUM: 2,
            }.get(field.type, 100 + number)
            if field.enum_type and field.enum_type.name == "NullValue":
                value = 0
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def kind(field):
    if field.message_type:
        options = field.message_type.GetOptions()
        if options.map_entry:
            parts = field.message_type.fields_by_name
            return f"map<{kind(parts['key'])},{kind(parts['value'])}>"
        return field.message_type.full_name
    return field.enum_type.full_name if field.enum_type else TYPES[field.type]


pool = descriptor_pool.Default()
for name in FILES:
    file = pool.FindFileByName(f"simulator/v1/{name}.proto")
    for enum in sorted(file.enum_types_by_name.values(), key=lambda enum: enum.name):
        for value in enum.values:
            print(f"enum {enum.full_name} {value.number} {value.name}")
    for message in sorted(file.message_types_by_name.values(), key=lambda m: m.name):
        for field in message.fields:
            label = "repeated " if field.is_repeated else ""
            if field.message_type and field.message_type.GetOptions().map_entry:
                label = ""
            group = field.containing_oneof
            of = f" oneof {group.name}" if group else ""
            print(f"field {message.full_name} {field.number} {label}{kind(field)} {field.name}{of}")
        encoded = filled(message).SerializeToString(deterministic=True).hex()
        print(f"bytes {message.name} {encoded}")
    for service in file.services_by_name.values():
        for method in service.methods:
            out = "stream " if method.server_streaming else ""
            inner, outer = method.input_type.full_name, method.output_type.full_name
            print(f"rpc {service.full_name}.{method.name} {inner} -> {out}{outer}")
