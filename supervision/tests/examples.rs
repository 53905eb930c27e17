//! The examples do what they say: each is run, and checks itself.

#[path = "../examples/chaos_test.rs"]
mod chaos_test;
#[path = "../examples/pool.rs"]
mod pool;
#[path = "../examples/supervised_counter.rs"]
mod supervised_counter;

#[test]
fn an_hour_of_chaos_on_virtual_time() {
    chaos_test::main();
}

#[test]
fn a_pool_that_loses_workers_and_no_job_but_theirs() {
    pool::main();
}

#[test]
fn a_counter_that_is_brought_back() {
    supervised_counter::main();
}
