"""Options of backends: typed once, and the same as what each backend's class takes."""

import inspect

import pytest

from private_lora.core.errors import UserError
from private_lora.core.names import load_object
from private_lora.specs.backends import BACKENDS
from private_lora.specs.base import check_backend
from private_lora.specs.options import ConcreteMLOptions


@pytest.mark.parametrize("name", BACKENDS)
def test_options_are_what_the_class_takes(name):
    options = {field: info.default for field, info in BACKENDS[name].options.model_fields.items()}
    parameters = inspect.signature(load_object(BACKENDS[name].path)).parameters
    taken = {parameter.name: parameter.default for parameter in parameters.values() if parameter.name != "device"}
    if BACKENDS[name].kind == "trainer":  # reads them from the spec
        assert not taken and BACKENDS[name].options is ConcreteMLOptions
    else:
        assert options == taken


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("packed", {"mode": "execute"}, "unknown option of backend packed 'mode': known are failure_log2, security, mask"),
        ("packed_approx", {"log2_q": 63}, "options of backend packed_approx: log2_q must be at most 62, not 63"),
        ("packed_approx", {"log2_q": 24.0}, "options of backend packed_approx: log2_q must be a whole number, not 24.0"),
        (
            "float",
            {"dtype": "bf16"},
            "options of backend float: dtype must be one of float32, bfloat16, int8, int4, not 'bf16'",
        ),
        ("packed", {"failure_log2": 0}, "options of backend packed: failure_log2 must be at most -64, not 0"),
        (
            "packed",
            {"security": "post-quantum"},
            "options of backend packed: security must be one of matzov, adps16, chaloy21_quantum, not 'post-quantum'",
        ),
        ("glwe", {"log2_q": 24}, "unknown option of backend glwe 'log2_q': known are none"),
    ],
)
def test_what_a_backend_does_not_take_is_one_sentence(name, options, sentence):
    with pytest.raises(UserError) as error:
        check_backend(name, "cpu", options)
    assert str(error.value) == sentence
