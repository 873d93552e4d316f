//! Bounds on tries, by address and by account. Keys fall into a fixed number of buckets by a hash with a random seed: memory
//! is bounded whatever is sent, and nobody can choose whom to share a bucket with.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::AuthError;
use crate::config;

type Limiter = RateLimiter<u64, HashMapStateStore<u64>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// See the module.
pub struct Throttle {
    by_address: Limiter,
    by_account: Limiter,
    seed: RandomState,
    buckets: u64,
    clock: MonotonicClock,
}

impl Throttle {
    /// With these settings.
    #[must_use]
    pub fn new(settings: &config::Auth) -> Self {
        let limiter = |burst: u32, every_s: u64| {
            let quota = Quota::with_period(Duration::from_secs(every_s.max(1)));
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            let quota = quota.unwrap_or_else(|| Quota::per_minute(burst)).allow_burst(burst);
            Limiter::hashmap_with_clock(quota, MonotonicClock)
        };
        Self {
            by_address: limiter(settings.tries_per_address, settings.try_per_address_s),
            by_account: limiter(settings.tries_per_account, settings.try_per_account_s),
            seed: RandomState::new(),
            buckets: settings.throttle_buckets.max(1),
            clock: MonotonicClock,
        }
    }

    /// Counts a try from an address.
    ///
    /// # Errors
    /// [`AuthError::TooManyTries`].
    pub fn address(&self, address: IpAddr) -> Result<(), AuthError> {
        self.count(&self.by_address, self.seed.hash_one(network(address)))
    }

    /// Counts a try for an account, whether there is one or not.
    ///
    /// # Errors
    /// [`AuthError::TooManyTries`].
    pub fn account(&self, username: &str) -> Result<(), AuthError> {
        self.count(&self.by_account, self.seed.hash_one(username.to_ascii_lowercase()))
    }

    fn count(&self, limiter: &Limiter, key: u64) -> Result<(), AuthError> {
        let wait = |until: governor::NotUntil<std::time::Instant>| until.wait_time_from(self.clock.now());
        limiter.check_key(&(key % self.buckets)).map_err(|until| AuthError::TooManyTries { wait: wait(until) })
    }
}

/// A subscriber has a whole /64 of IPv6 to send from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(buckets: u64) -> Throttle {
        let mut settings = config::Config::defaults().unwrap().auth;
        (settings.tries_per_address, settings.try_per_address_s) = (3, 1000);
        (settings.tries_per_account, settings.try_per_account_s) = (2, 1000);
        settings.throttle_buckets = buckets;
        Throttle::new(&settings)
    }

    #[test]
    fn each_has_its_own_bound() {
        let throttle = throttle(u64::MAX);
        for _ in 0..2 {
            throttle.account("Ada").unwrap();
        }
        let Err(AuthError::TooManyTries { wait }) = throttle.account("aDA") else { panic!("too many for one account") };
        assert!((900..=1000).contains(&wait.as_secs()), "{wait:?}");
        throttle.account("bob").unwrap();
        for _ in 0..3 {
            throttle.address("10.0.0.1".parse().unwrap()).unwrap();
        }
        assert!(throttle.address("::ffff:10.0.0.1".parse().unwrap()).is_err());
        throttle.address("10.0.0.2".parse().unwrap()).unwrap();
    }

    #[test]
    fn addresses_of_one_subscriber_are_one() {
        let throttle = throttle(u64::MAX);
        for host in 1..=3 {
            throttle.address(format!("2001:db8:1:2::{host}").parse().unwrap()).unwrap();
        }
        assert!(throttle.address("2001:db8:1:2:ffff::9".parse().unwrap()).is_err());
        throttle.address("2001:db8:1:3::1".parse().unwrap()).unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = throttle(8);
        for number in 0..1000 {
            let _ = throttle.account(&format!("name{number}"));
        }
        assert!(throttle.by_account.len() <= 8);
    }
}
