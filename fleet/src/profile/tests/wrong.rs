//! Wrong profiles, with everything that must be said about each; the tests of the command line
//! read them, too.

/// A wrong profile: file name, text, and what must be said: line, column, a part of the message.
pub(crate) type Wrong = (
    &'static str,
    &'static str,
    &'static [(usize, usize, &'static str)],
);

pub(crate) const WRONG: &[Wrong] = &[
    (
        "a.yaml",
        "protocol: quic\n",
        &[(1, 1, "the profile has no `type`")],
    ),
    (
        "a.yaml",
        "type: 7\n",
        &[(1, 7, "`type` must be a text, not a number")],
    ),
    ("a.yaml", "type: a/b\n", &[(1, 7, "`type` cannot be `a/b`")]),
    (
        "a.yaml",
        "- 1\n- 2\n",
        &[(1, 1, "the profile must be a map of keys, not a list")],
    ),
    ("a.yaml", "type: [\n", &[(1, 7, "unclosed bracket '['")]),
    ("a.yaml", "type: t\ntype: u\n", &[(2, 1, "duplicate")]),
    (
        "a.yaml",
        "type: t\nprotocol: carrier_pigeon\n",
        &[(2, 11, "`protocol` cannot be")],
    ),
    (
        "a.yaml",
        "type: t\nqos: 3\n",
        &[(2, 6, "`qos` must be 0, 1 or 2, is 3")],
    ),
    (
        "a.yaml",
        "type: t\nqos: high\n",
        &[(2, 6, "`qos` must be a number, not a text")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_interval: 5\n",
        &[(2, 21, "must be a text, not a number")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_interval: 5 days\n",
        &[(2, 21, "is not a duration")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_interval: 0s\n",
        &[(2, 21, "between 1ms and 24h")],
    ),
    (
        "a.yaml",
        "type: t\nlabels: [a]\n",
        &[(2, 9, "`labels` must be a map of keys")],
    ),
    (
        "a.yaml",
        "type: t\nlabels:\n  a: [b]\n",
        &[(3, 6, "`a` must be a text, not a list")],
    ),
    (
        "a.yaml",
        "type: t\nmqtt_password: x\n",
        &[(2, 1, "`mqtt_password` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\nlabels:\n  api_key: x\n",
        &[(3, 3, "`api_key` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\nauth:\n  token: x\n",
        &[(3, 3, "`token` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\nlabels:\n  url: mqtt://me:pw@host\n",
        &[(3, 8, "a URL with a password in it")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {mean: 1}\n  b: 5\n",
        &[
            (3, 6, "field `a` has no `type`"),
            (4, 6, "field `b` must be a map of keys"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: gausian, mean: 1}\n",
        &[(3, 13, "`type` cannot be `gausian`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: gaussian, mean: x, stddev: -1}\n",
        &[
            (3, 29, "`mean` must be a number, not a text"),
            (3, 40, "`stddev` must not be below 0"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: gaussian, mean: .nan, stddev: 1}\n",
        &[(3, 29, "non-finite float")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  \
         a: {type: brownian, start: 1, volatility: -2, min: 5, max: 4}\n",
        &[
            (3, 45, "`volatility` must not be below 0"),
            (3, 62, "`min` 5 is above `max` 4"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  \
         a: {type: diurnal, baseline: 1, amplitude: 1, peak_hour: 24}\n",
        &[(3, 60, "`peak_hour` must lie in 0..23")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a:\n    type: markov\n    states: [x, y]\n    \
         transition_matrix: [[0.5, 0.4], [1.0]]\n    initial_state: z\n",
        &[
            (6, 24, "row 0 of the matrix sums to 0.9"),
            (6, 24, "row 1 of the matrix has 1 numbers for 2 states"),
            (7, 20, "the initial state \"z\" is not one of the states"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: composite, of: []}\n  b: {type: composite}\n",
        &[
            (3, 28, "needs 1 to 16 generators"),
            (4, 6, "field `b` has no `of`"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: follow, field: b}\n  \
         b: {type: follow, field: a}\n",
        &[
            (3, 3, "field `a` follows itself"),
            (4, 3, "field `b` follows itself"),
        ],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: follow, field: nobody}\n",
        &[(3, 28, "there is no field `nobody`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: replay, file: none.csv, column: x}\n",
        &[(3, 27, "cannot read `none.csv`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  voltage: {sensor: Voltage, type: static, value: high}\n",
        &[(3, 12, "its values must be numbers")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: static, value: 1, sensor: Volts}\n",
        &[(3, 39, "`sensor` cannot be `Volts`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  voltage: {type: static, value: 1}\n  \
         current: {type: static, value: 1, gated_by: voltage}\n",
        &[(
            4,
            3,
            "`current` is gated by `voltage`, which is no actuator",
        )],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  voltage: {type: static, value: 1}\nevents:\n  \
         - {field: power, below: 1}\n  - {field: voltage}\n  \
         - {field: voltage, above: 1, below: 0}\n",
        &[
            (5, 13, "there is no field `power`"),
            (6, 5, "a threshold needs either `below` or `above`"),
            (7, 5, "a threshold needs either `below` or `above`"),
        ],
    ),
    // TOML: the same checks, and unknown keys are errors.
    (
        "a.toml",
        "type = 't'\ntelemetry_feilds = 1\n",
        &[(2, 1, "unknown key `telemetry_feilds`")],
    ),
    (
        "a.toml",
        "type = 't'\nqos = 'x'\n",
        &[(2, 7, "`qos` must be a number, not a text")],
    ),
    ("a.toml", "type = \nqos = \n", &[(1, 8, ""), (2, 7, "")]),
    (
        "a.toml",
        "type = 't'\nqos = 9\nnope = 1\n[telemetry_fields.a]\ntype = 'gaussian'\nmean = 'x'\n",
        &[
            (2, 7, "`qos` must be 0, 1 or 2"),
            (3, 1, "unknown key `nope`"),
            (4, 1, "field `a` has no `stddev`"),
            (6, 8, "`mean` must be a number"),
        ],
    ),
    (
        "a.toml",
        "type = 't'\nsecret = 'x'\n",
        &[(2, 1, "`secret` is a credential")],
    ),
    (
        "a.yaml",
        "type: t\npayload: template\n",
        &[(1, 1, "the profile has no `payload_template`")],
    ),
    (
        "a.yaml",
        "type: t\npayload: template\npayload_template: '{device_id} {fields.a} {now}'\n",
        &[
            (3, 19, "unknown placeholder {fields.a}"),
            (3, 19, "unknown placeholder {now}"),
        ],
    ),
    (
        "a.yaml",
        "type: t\npayload_template: x\n",
        &[(2, 19, "says nothing without `payload: template`")],
    ),
    (
        "a.yaml",
        "type: t\ntopic_template: 'a/{devcie_id}'\n",
        &[(2, 17, "unknown placeholder {devcie_id}")],
    ),
    (
        "a.toml",
        "type = 't'\ntopic_template = '{labels.site}/{device_id'\n",
        &[(2, 18, "a brace without its partner")],
    ),
    (
        "a.yaml",
        "type: t\ntopic_template: a/#\n",
        &[(2, 17, "the wildcard # cannot stand in a topic")],
    ),
    (
        "a.yaml",
        "type: t\npayload: avro\n",
        &[(2, 10, "`payload` cannot be `avro`")],
    ),
    (
        "a.yaml",
        "type: t\nbackpressure: hope\n",
        &[(2, 15, "`backpressure` cannot be `hope`")],
    ),
    (
        "a.yaml",
        "type: t\ntelemetry_fields:\n  a: {type: static, value: 1, off: 2}\n",
        &[(3, 36, "`off` says nothing without `gated_by`")],
    ),
];
