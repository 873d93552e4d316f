//! Accounts, sessions, tokens, invitations.

use std::sync::Arc;

use futures::future::join_all;

use super::FAR;
use crate::job::{AccountId, CredentialId, InvitationId, OwnerId};
use crate::store::accounts::*;

type Store = Arc<dyn Accounts>;

const MANY: u64 = 1000;

fn named(username: &str) -> NewAccount {
    NewAccount { username: username.to_owned(), password_hash: format!("hash of {username}") }
}

async fn register(store: &Store, username: &str, entry: Entry) -> Registered {
    store.create_account(named(username), entry, MANY).await.unwrap()
}

async fn account(store: &Store, username: &str) -> AccountRow {
    let made = register(store, username, Entry::Open).await;
    let Registered::Created(account) = made else { panic!("{made:?}") };
    account
}

fn new_credential(account: &AccountRow, kind: CredentialKind, secret: u8) -> NewCredential {
    NewCredential {
        account: account.id,
        kind,
        secret: [secret; 32],
        name: format!("number {secret}"),
        scopes: Scopes::of(&[Scope::Read]),
        expires_at_ms: Some(FAR),
    }
}

async fn create(store: &Store, account: &AccountRow, kind: CredentialKind, secret: u8) -> CredentialRow {
    store.create_credential(new_credential(account, kind, secret), None, MANY).await.unwrap().unwrap()
}

async fn opens(store: &Store, secret: u8) -> bool {
    store.credential(&[secret; 32], 0).await.unwrap().is_some()
}

pub(crate) async fn the_first_account_is_the_administrator(store: &Store) {
    let Registered::Created(first) = register(store, "Ada", Entry::Closed).await else { panic!("the first may enter") };
    assert_eq!((first.role, first.owner), (Role::Admin, OwnerId::LOCAL));
    let second = account(store, "bob").await;
    assert_eq!((second.role, second.owner), (Role::User, OwnerId(second.id.0)));
    assert_ne!(second.owner, first.owner);
    let Registered::Created(third) = register(store, "cid", Entry::Appointed(Role::Admin)).await else { panic!() };
    assert_eq!(third.role, Role::Admin);
    assert_eq!(store.account_by_name("ADA").await.unwrap(), Some((first, "hash of Ada".to_owned())));
    assert_eq!(store.account_by_name("nobody").await.unwrap(), None);
}

pub(crate) async fn names_differ_in_more_than_case(store: &Store) {
    account(store, "Ada").await;
    for name in ["Ada", "ada", "ADA"] {
        assert_eq!(register(store, name, Entry::Open).await, Registered::NameTaken);
    }
    assert_eq!(store.accounts(None, 10).await.unwrap().len(), 1);
}

pub(crate) async fn entries_are_checked(store: &Store) {
    account(store, "ada").await;
    assert_eq!(register(store, "bob", Entry::Closed).await, Registered::Closed);
    // Whoever is not invited does not learn that the name is taken.
    for entry in [Entry::Invitation(None), Entry::Invitation(Some([9; 32]))] {
        assert_eq!(register(store, "ada", entry).await, Registered::NotInvited);
    }
    assert_eq!(register(store, "ada", Entry::Closed).await, Registered::Closed);
}

pub(crate) async fn an_invitation_is_good_once(store: &Store) {
    let ada = account(store, "ada").await;
    let invitation = store.create_invitation(ada.id, [1; 32], FAR, 3).await.unwrap().unwrap();
    store.create_invitation(ada.id, [2; 32], 5, 3).await.unwrap().unwrap();
    let third = store.create_invitation(ada.id, [3; 32], FAR, 3).await.unwrap().unwrap();
    assert_eq!(store.create_invitation(ada.id, [4; 32], FAR, 3).await.unwrap(), None, "there are enough");
    assert_eq!(store.invitations(10).await.unwrap(), [third.clone(), invitation]);
    assert_eq!(register(store, "bob", Entry::Invitation(Some([2; 32]))).await, Registered::NotInvited, "expired");
    assert_eq!(register(store, "ada", Entry::Invitation(Some([1; 32]))).await, Registered::NameTaken);
    // A name that was taken has not used it up.
    assert!(matches!(register(store, "bob", Entry::Invitation(Some([1; 32]))).await, Registered::Created(_)));
    assert_eq!(register(store, "cid", Entry::Invitation(Some([1; 32]))).await, Registered::NotInvited);
    assert!(store.revoke_invitation(third.id).await.unwrap());
    assert!(!store.revoke_invitation(InvitationId::fresh()).await.unwrap());
    assert_eq!(register(store, "cid", Entry::Invitation(Some([3; 32]))).await, Registered::NotInvited);
    assert_eq!(store.prune_accounts(10).await.unwrap(), 1);
}

pub(crate) async fn accounts_are_bounded(store: &Store) {
    account(store, "ada").await;
    assert_eq!(store.create_account(named("bob"), Entry::Open, 1).await.unwrap(), Registered::Full);
}

pub(crate) async fn lists_go_on(store: &Store) {
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(account(store, name).await.id);
    }
    let page = store.accounts(None, 2).await.unwrap();
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    let rest = store.accounts(Some(ids[1]), 2).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.id).collect::<Vec<_>>(), [ids[0]]);
}

pub(crate) async fn secrets_open_one_account(store: &Store) {
    let (ada, bob) = (account(store, "ada").await, account(store, "bob").await);
    let session = create(store, &ada, CredentialKind::Session, 1).await;
    let mut forever = new_credential(&bob, CredentialKind::Token, 2);
    forever.expires_at_ms = None;
    let token = store.create_credential(forever, None, MANY).await.unwrap().unwrap();
    assert_eq!(store.credential(&[1; 32], 0).await.unwrap(), Some((session.clone(), ada.clone())));
    assert_eq!(store.credential(&[2; 32], i64::MAX).await.unwrap(), Some((token.clone(), bob.clone())));
    assert_eq!(store.credential(&[3; 32], 0).await.unwrap(), None);
    assert_eq!(store.credentials(ada.id, CredentialKind::Session, 0).await.unwrap(), [session]);
    assert_eq!(store.credentials(bob.id, CredentialKind::Token, 0).await.unwrap(), [token]);
    assert!(store.credentials(bob.id, CredentialKind::Session, 0).await.unwrap().is_empty());
}

pub(crate) async fn what_is_expired_opens_nothing(store: &Store) {
    let ada = account(store, "ada").await;
    let session = create(store, &ada, CredentialKind::Session, 1).await;
    store.use_credential(session.id, 700, Some(1000)).await.unwrap();
    let (used, _) = store.credential(&[1; 32], 999).await.unwrap().unwrap();
    assert_eq!((used.used_at_ms, used.expires_at_ms), (700, Some(1000)));
    assert_eq!(store.credential(&[1; 32], 1000).await.unwrap(), None);
    assert!(store.credentials(ada.id, CredentialKind::Session, 1000).await.unwrap().is_empty());
    assert_eq!(store.prune_accounts(999).await.unwrap(), 0);
    assert_eq!(store.prune_accounts(1000).await.unwrap(), 1);
    assert_eq!(store.credential(&[1; 32], 0).await.unwrap(), None);
}

pub(crate) async fn sessions_rotate_and_give_way(store: &Store) {
    let (ada, bob) = (account(store, "ada").await, account(store, "bob").await);
    create(store, &ada, CredentialKind::Session, 1).await;
    create(store, &ada, CredentialKind::Token, 9).await;
    let rotated = new_credential(&bob, CredentialKind::Session, 2);
    store.create_credential(rotated, Some([1; 32]), MANY).await.unwrap().unwrap();
    assert!(!opens(store, 1).await, "the session before the login is over");
    // A token is not ended by way of the cookie.
    store.create_credential(new_credential(&bob, CredentialKind::Session, 3), Some([9; 32]), MANY).await.unwrap();
    assert!(opens(store, 9).await);
    for secret in 4..8 {
        store.create_credential(new_credential(&bob, CredentialKind::Session, secret), None, 3).await.unwrap().unwrap();
    }
    let left = store.credentials(bob.id, CredentialKind::Session, 0).await.unwrap();
    assert_eq!(left.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["number 7", "number 6", "number 5"]);
}

pub(crate) async fn tokens_are_bounded(store: &Store) {
    let ada = account(store, "ada").await;
    let one = create(store, &ada, CredentialKind::Token, 1).await;
    create(store, &ada, CredentialKind::Session, 2).await;
    let further = || new_credential(&ada, CredentialKind::Token, 3);
    assert_eq!(store.create_credential(further(), None, 1).await.unwrap(), None);
    assert!(opens(store, 1).await && !opens(store, 3).await);
    store.use_credential(one.id, 0, Some(1)).await.unwrap();
    assert!(store.create_credential(further(), None, 1).await.unwrap().is_some(), "an expired one does not count");
}

pub(crate) async fn others_cannot_revoke(store: &Store) {
    let (ada, bob) = (account(store, "ada").await, account(store, "bob").await);
    let token = create(store, &ada, CredentialKind::Token, 1).await;
    assert!(!store.revoke_credential(bob.id, CredentialKind::Token, token.id).await.unwrap());
    assert!(!store.revoke_credential(ada.id, CredentialKind::Session, token.id).await.unwrap());
    assert!(!store.revoke_credential(ada.id, CredentialKind::Token, CredentialId::fresh()).await.unwrap());
    assert!(opens(store, 1).await);
    assert!(store.revoke_credential(ada.id, CredentialKind::Token, token.id).await.unwrap());
    assert!(!opens(store, 1).await);
}

pub(crate) async fn a_new_password_ends_sessions(store: &Store) {
    let (ada, bob) = (account(store, "ada").await, account(store, "bob").await);
    let here = create(store, &ada, CredentialKind::Session, 1).await;
    create(store, &ada, CredentialKind::Session, 2).await;
    create(store, &ada, CredentialKind::Token, 3).await;
    create(store, &bob, CredentialKind::Session, 4).await;
    assert!(store.set_password(ada.id, "other".to_owned(), Some(here.id)).await.unwrap());
    assert!(opens(store, 1).await && !opens(store, 2).await && opens(store, 3).await && opens(store, 4).await);
    assert_eq!(store.account_by_name("ada").await.unwrap().unwrap().1, "other");
    assert!(store.set_password(ada.id, "third".to_owned(), None).await.unwrap());
    assert!(!opens(store, 1).await);
    assert!(!store.set_password(AccountId::fresh(), "x".to_owned(), None).await.unwrap());
}

pub(crate) async fn a_race_has_one_administrator(store: &Store) {
    let names: Vec<String> = (0..20).map(|number| format!("user{number}")).collect();
    let made = join_all(names.iter().map(|name| register(store, name, Entry::Open))).await;
    let admins = made.iter().filter(|made| matches!(made, Registered::Created(row) if row.role == Role::Admin));
    assert_eq!(admins.count(), 1);
}

async fn change(store: &Store, id: AccountId, role: Option<Role>, disabled: Option<bool>) -> AccountChanged {
    store.change_account(id, AccountChange { role, disabled }).await.unwrap()
}

pub(crate) async fn a_disabled_account_opens_nothing(store: &Store) {
    let (root, ada) = (account(store, "root").await, account(store, "ada").await);
    let session = create(store, &ada, CredentialKind::Session, 1).await;
    let token = create(store, &ada, CredentialKind::Token, 2).await;
    create(store, &root, CredentialKind::Session, 3).await;
    assert!(store.credential_is_good(session.id, 0).await.unwrap());
    assert!(!store.credential_is_good(session.id, FAR).await.unwrap(), "expired");
    let AccountChanged::Done(off, ended) = change(store, ada.id, None, Some(true)).await else { panic!() };
    assert!(off.disabled_at_ms.is_some() && off.role == Role::User);
    assert_eq!(ended.len(), 2);
    assert!(ended.contains(&session.id) && ended.contains(&token.id));
    assert!(!opens(store, 1).await && !opens(store, 2).await && opens(store, 3).await);
    assert!(!store.credential_is_good(session.id, 0).await.unwrap());
    let further = new_credential(&ada, CredentialKind::Session, 4);
    assert_eq!(store.create_credential(further.clone(), None, MANY).await.unwrap(), None);
    assert_eq!(store.account(ada.id).await.unwrap(), Some(off));
    let AccountChanged::Done(on, _) = change(store, ada.id, None, Some(false)).await else { panic!() };
    assert_eq!(on.disabled_at_ms, None);
    assert!(!opens(store, 1).await, "what has ended stays so");
    assert!(store.create_credential(further, None, MANY).await.unwrap().is_some());
    assert_eq!(change(store, AccountId::fresh(), None, None).await, AccountChanged::NoSuchAccount);
}

pub(crate) async fn one_administrator_is_left(store: &Store) {
    let (root, ada) = (account(store, "root").await, account(store, "ada").await);
    for (role, disabled) in [(Some(Role::User), None), (None, Some(true))] {
        assert_eq!(change(store, root.id, role, disabled).await, AccountChanged::LastAdministrator);
    }
    assert!(matches!(change(store, ada.id, Some(Role::Admin), None).await, AccountChanged::Done(..)));
    // Both at once: one of them stays.
    let (one, other) =
        futures::join!(change(store, root.id, None, Some(true)), change(store, ada.id, Some(Role::User), None));
    let refused = [&one, &other].into_iter().filter(|changed| **changed == AccountChanged::LastAdministrator).count();
    assert_eq!(refused, 1, "{one:?} {other:?}");
    // An administrator who cannot come in is none.
    let cid = account(store, "cid").await;
    change(store, cid.id, Some(Role::Admin), Some(true)).await;
    let accounts = store.accounts(None, 10).await.unwrap();
    let left: Vec<_> = accounts.iter().filter(|row| row.role == Role::Admin && row.disabled_at_ms.is_none()).collect();
    assert_eq!(left.len(), 1);
    assert_eq!(change(store, left[0].id, None, Some(true)).await, AccountChanged::LastAdministrator);
}
