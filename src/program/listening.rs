//! [`Listening`]: the listeners of one generation, and how they follow from those of the generations before: an address
//! that stays keeps its socket, and with it what waits there; a new one is bound before anything else changes.

use super::sockets::Source;
use super::start_error::StartError;
use super::upgrade::Upgrade;
use crate::log::Owner;
use crate::net::{self, BindOptions, Listener, Listeners};
use crate::settings::{BindAddress, Settings};
use crate::worker;
use crate::wsgi::hooks::ListenerFacts;
use std::sync::Arc;

/// Where the workers of one generation accept.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// What `--bind` calls each of the listeners; `None` for those that were handed over and that it does not name.
    addresses: Vec<Option<BindAddress>>,
    listeners: Listeners,
}

impl Listening {
    /// Of the first generation.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(super) fn open(source: &Source, settings: &Settings) -> Result<Self, StartError> {
        let mut listening = Self::default();
        if *source == Source::Settings {
            for address in &settings.bind {
                listening.bind(address, settings)?;
            }
            return Ok(listening);
        }
        let mut named: Vec<_> = settings.bind.iter().collect();
        for listener in source.listen()? {
            let found = named.iter().position(|address| listener.may_be_at(address));
            listening.add(found.map(|index| named.swap_remove(index).clone()), listener);
        }
        Ok(listening)
    }

    /// Of a generation whose configuration says something else in `--bind` than those `before` it, the newest last.
    ///
    /// # Errors
    /// An address that cannot be had; all stays as it was.
    pub(super) fn follow<'g>(
        before: impl DoubleEndedIterator<Item = &'g Self> + Clone,
        settings: &Settings,
    ) -> Result<Self, StartError> {
        let places = before.clone().next_back().map(|newest| Arc::clone(&newest.listeners.places));
        let listeners = Listeners { open: Vec::new(), places: places.unwrap_or_default() };
        let mut listening = Self { addresses: Vec::new(), listeners };
        let first_new = listening.listeners.places.len();
        for address in &settings.bind {
            match before.clone().rev().find_map(|own| own.at(address, &listening)) {
                Some(listener) => listening.keep(address, listener),
                None => {
                    if let Err(error) = listening.bind(address, settings) {
                        listening.forget_since(first_new);
                        return Err(error);
                    }
                }
            }
        }
        Ok(listening)
    }

    /// The same as of the generation before.
    pub(super) fn same(&self) -> Self {
        Self { addresses: self.addresses.clone(), listeners: self.listeners.clone() }
    }

    /// What is bound to this address, unless it is on its way out or `taken` already.
    fn at(&self, address: &BindAddress, taken: &Self) -> Option<Arc<Listener>> {
        let mut own = self.addresses.iter().zip(&self.listeners.open);
        let is_free = |listener: &Arc<Listener>| !listener.is_closed() && !taken.has(listener);
        own.find(|(bound, listener)| bound.as_ref() == Some(address) && is_free(listener))
            .map(|(_, listener)| Arc::clone(listener))
    }

    /// For hooks.
    pub(super) fn facts(&self) -> Vec<ListenerFacts> {
        self.listeners.open.iter().map(|own| worker::listener_facts(own)).collect()
    }

    pub(super) fn has(&self, listener: &Arc<Listener>) -> bool {
        self.listeners.open.iter().any(|own| Arc::ptr_eq(own, listener))
    }

    fn bind(&mut self, address: &BindAddress, settings: &Settings) -> Result<(), StartError> {
        let bound = net::bind(address, &BindOptions::from(settings)).map_err(StartError::failed)?;
        bound.into_iter().for_each(|listener| self.add(Some(address.clone()), listener));
        Ok(())
    }

    fn add(&mut self, address: Option<BindAddress>, mut listener: Listener) {
        let places = Arc::make_mut(&mut self.listeners.places);
        listener.number = places.len();
        places.push(listener.local.clone());
        self.addresses.push(address);
        self.listeners.open.push(Arc::new(listener));
    }

    fn keep(&mut self, address: &BindAddress, listener: Arc<Listener>) {
        self.addresses.push(Some(address.clone()));
        self.listeners.open.push(listener);
    }

    /// Removes the files of sockets that were made in vain.
    pub(super) fn forget_since(&self, first_new: usize) {
        self.listeners.open.iter().filter(|listener| listener.number >= first_new).for_each(|own| unlink(own));
    }

    /// What a worker needs of it.
    pub(super) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Those that newcomers come to.
    pub(super) fn open_ones(&self) -> &[Arc<Listener>] {
        &self.listeners.open
    }

    /// How many addresses the server has listened at up to this generation.
    pub(super) fn places(&self) -> usize {
        self.listeners.places.len()
    }

    /// Has the kernel queue as many connections as the settings say.
    pub(super) fn set_backlog(&self, backlog: u32) {
        for listener in self.open_ones().iter().filter(|listener| listener.is_ours()) {
            if let Err(error) = listener.set_backlog(backlog) {
                log::warn!("{listener}: --backlog stays as it was: {error}");
            }
        }
    }

    /// As gunicorn does, though anybody may connect who may reach the folder. What another server has made belongs to
    /// it. Only those from the number `first` on.
    ///
    /// # Errors
    /// The file system does not let us.
    pub(super) fn give_to(&self, owner: Option<Owner>, first: usize) -> Result<(), StartError> {
        let Some(owner) = owner else { return Ok(()) };
        for listener in self.open_ones().iter().filter(|own| own.is_ours() && own.number >= first) {
            listener.give_to(Some(owner.uid), Some(owner.gid)).map_err(|error| {
                StartError::failed(format!("{listener} cannot be given to --user and --group: {error}"))
            })?;
        }
        Ok(())
    }

    /// Removes the socket files, if this server is the last that has the sockets.
    pub(super) fn unlink_all(&self, upgrade: &Upgrade) {
        self.open_ones().iter().filter(|listener| upgrade.may_close_door(listener)).for_each(|own| unlink(own));
    }
}

/// Removes the file of a socket.
pub(super) fn unlink(listener: &Listener) {
    if let Err(error) = listener.unlink() {
        log::warn!("cannot remove the socket {listener}: {error}");
    }
}

/// Lets nobody new connect.
pub(super) fn refuse_newcomers(listener: &Listener) {
    if let Err(error) = listener.refuse_newcomers() {
        log::warn!("{listener}: clients that connect now may be reset: {error}");
    }
}
