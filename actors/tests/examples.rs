//! The examples to start from do what they say: each is run, and checks itself.

#[path = "../examples/bounded_pipeline.rs"]
mod bounded_pipeline;

#[test]
fn a_pipeline_whose_slow_end_slows_its_source() {
    bounded_pipeline::main();
}
