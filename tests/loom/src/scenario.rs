//! What a model is about: threads, requests, and the rule of the callers of `Turn` that is left out, if one is.

/// The requests are numbered from 0, in the order in which they are in each batch of events.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Application threads. The standby comes to them.
    pub threads: usize,
    pub calls: Vec<Call>,
    /// Whether calls are expected to wait, so that whoever goes into one hands the turn on.
    pub hands_on: bool,
    /// Where the requests are at first.
    pub start: Start,
    pub without: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// All have arrived.
    Arrived,
    /// The last one arrives while the threads are at work.
    LastLater,
    /// So it does, and a thread of the application's own has the GIL until somebody has received it.
    LastLaterWithoutGil,
    /// The first one is in the queue.
    FirstQueued,
}

/// What the application does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Answers at once.
    Short,
    /// Waits without the GIL until somebody has received this request.
    UntilReceived(usize),
    /// Computes, with the GIL, until somebody has received this request.
    ComputesUntilReceived(usize),
    /// Waits without the GIL until this request has been served.
    UntilServed(usize),
    /// Computes until this request has been served; the GIL goes to and fro meanwhile.
    ComputesUntilServed(usize),
    /// Answers at once, with a little wait, and its client has sent this request behind it.
    With(usize),
}

/// What the threads do on their side of `Turn`, in `app_thread.rs` and `standby.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// After a call or a wait, the rest of the batch is dropped if another epoch has begun.
    EpochAfterCall,
    EpochAfterWait,
    /// The standby's wait is one too.
    EpochOfStandby,
    /// An event only says where to look: what is served is what is received then, at the desk.
    Receive,
    /// Neither of the two.
    EpochAndReceive,
    /// Nobody waits for events, or parks, with something in the queue.
    QueueBeforePoll,
    QueueBeforePark,
    /// Whoever wants the GIL is away.
    AwayForGil,
    /// So is who wants it after a rest.
    AwayForGilAfterRest,
    /// The GIL is not waited for at the desk.
    GilBeforeDesk,
    /// The end wakes a poller that waits for events.
    EndWakesPoller,
}
