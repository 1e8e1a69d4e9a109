//! Models of the hand-off between the threads of a worker. `src/worker/turn.rs` itself is run by loom, in all orders that
//! its threads can be in; around it, `world` has what `app_thread.rs` and `standby.rs` do, in the same functions.
//!
//! A model proves little until it fails: `build.rs` breaks the rules of `turn.rs` one by one, and a scenario can be
//! [without](scenario::Rule) a rule of its callers. A change to those two files belongs into `world` as well.
//!
//! | rule (DESIGN, The worker engine) | where it is kept | what fails without it |
//! |---|---|---|
//! | one poller at a time | `Turn::take`, `Desk::pass_to` | `without::same_epoch`, `take_without_turn`, `take_from_anybody` |
//! | the standby polls while a call takes long | `Turn::take_over`, `Standby::tick` | `without::never_takes_over`, `engine_handoff::refusals_do_not_wait_for_the_application` |
//! | it sleeps while there is nothing to do | `Standby::run` | `engine_handoff::an_idle_worker_uses_no_cpu` |
//! | and whoever goes into a call wakes it | `Turn::go_away`, `Turn::standby_sleep_until_needed` | `without::no_fence_in_go_away`, `no_fence_in_sleep`, `sleeps_without_a_look`, `looks_before_it_says_so`, `rings_before_it_says_so`, `wakes_nobody` |
//! | a bell that rang before the wait ends it | `sys::shared::Doorbell` | `without::forgetful_bell` |
//! | a call that waits gets a parked thread going | `Turn::hand_on`, `Turn::wake_poller`, `Desk::park`, `Desk::unpark` | `without::parks_unnoted`, `wakes_poller_without_bell`, `without_stays_parked`, `engine_threads::calls_that_sleep_overlap` |
//! | so does one that computes, when others have waited | `Turn::wake_helper`, `Standby::look_after_others` | `without::wakes_helper_without_bell`, `engine_threads::as_many_calls_as_threads_at_once` |
//! | who returns looks at the queue before it polls or parks | `AppThread::run`, `AppThread::poll` | `without_a_look_at_the_queue` |
//! | the standby touches no Python object | all that `wsgi` offers for them wants a `Python<'_>`; what is dropped without it waits in pyo3's list | the compiler |
//! | the GIL comes before the desk | `AppThread::wait`, `AppThread::rest` | `waiting_for_the_gil_at_the_desk`, `engine_threads::a_call_that_keeps_the_gil_while_it_waits` |
//! | who waits for the GIL is away | the same | `waiting_for_the_gil_unseen` |
//! | a client whose request is in the application is its thread's | `Clients::take`, `Engine::on_caller` | `engine_handoff::a_client_that_ends_sending_during_its_call_gets_its_response` |
//! | what is received is served, once | `Engine::on_client` | `served_once_by_epoch_or_by_receiving` |
//! | an event of a connection that is gone finds nothing | `Token`, `Clients` | `worker::client::tests::a_token_of_a_client_that_is_gone_finds_nothing` |
//! | pipelined bytes stay in order | `Connection`, which has them all | `engine_handoff::pipelined_requests_stay_in_order` |
//! | another epoch: the batch is stale | `AppThread::is_poller`, `Standby::poll_for_others` | `without_a_look_at_the_epoch` |
//! | input and hang-ups that nobody wants yet do not spin | `Io::pause` | `engine_handoff::a_megabyte_behind_a_long_call`, `a_client_that_leaves_during_its_call_costs_nothing` |
//! | finished responses leave before a long call, or at the takeover | `Engine::send_finished`, `Engine::look_at_caller` | `engine_handoff::a_response_does_not_wait_for_the_request_behind_it`, `worker::a_finished_response_does_not_wait_for_a_slow_neighbour` |
//! | a wait that blocks lets go of the GIL | `AppThread::wait` | `worker::threads_of_the_app_run_while_the_worker_is_idle` |
//! | the end reaches everybody, also who waits for events | `Turn::end`, `Engine::end` | `without::ends_without_bells`, `an_end_that_does_not_wake_the_poller`, `engine_threads::the_end_wakes_the_thread_that_polls` |
//!
//! Two conditions of `turn.rs` are no matter of safety, and no model fails without them: `take_over` looks once more at
//! what `tick` has just looked at, and a parked thread that is woken without the turn takes it if it is to be had.
#![cfg(test)]

mod kernel;
mod models;
mod scenario;
mod sleep;
mod sync;
mod world;

#[path = "../../../src/worker/turn.rs"]
#[allow(dead_code)]
mod turn;

// A module for each mutant, named after it.
include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
