// SPDX-License-Identifier: Apache-2.0
//! Acting as somebody else: `Impersonate-User` and `Impersonate-Group`, for who has the right to.
//!
//! Every name that is borrowed is a resource of its own: `users`, `groups`, and `serviceaccounts` in their
//! namespace, each with the verb `impersonate`. Source: Kubernetes, "User impersonation".

use http::HeaderMap;

use super::auth::{ACCOUNT_USER, ACCOUNTS, AUTHENTICATED};
use super::path::Target;
use super::policy::Identity;
use super::status::Failure;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The most groups of one request.
const MAX_GROUPS: usize = 64;

/// Who is meant, and what must be allowed for it; nothing when the sender speaks for itself.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<(Identity, Vec<Target>)>, Failure> {
    let text = |value: &http::HeaderValue| {
        value.to_str().map(str::to_owned).map_err(|_error| unreadable())
    };
    let user = headers.get(USER).map(text).transpose()?.unwrap_or_default();
    let groups = headers.get_all(GROUP).iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let others =
        headers.keys().any(|name| name.as_str() == UID || name.as_str().starts_with(EXTRA));
    if user.is_empty() {
        if groups.is_empty() && !others {
            return Ok(None);
        }
        let message =
            "requested to impersonate groups, a uid or extra values without impersonating a user";
        return Err(Failure::new(500, "InternalError", message));
    }
    if others {
        let message = "impersonation of a uid or of extra values is not supported";
        return Err(Failure::new(403, "Forbidden", message));
    }
    if groups.len() > MAX_GROUPS {
        let message = format!("impersonation of more than {MAX_GROUPS} groups");
        return Err(Failure::new(400, "BadRequest", message));
    }
    let account = user.strip_prefix(ACCOUNT_USER).and_then(|rest| rest.split_once(':'));
    let mut needed = vec![match account {
        Some((namespace, name)) => {
            Target { namespace: namespace.to_owned(), ..named("serviceaccounts", name) }
        }
        None => named("users", &user),
    }];
    needed.extend(groups.iter().map(|group| named("groups", group)));
    let mut all = match account {
        Some((namespace, _)) if groups.is_empty() => {
            vec![ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}")]
        }
        _ => groups,
    };
    let everyone = if user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if all.iter().all(|group| group != everyone) {
        all.push(everyone.to_owned());
    }
    Ok(Some((Identity { user, groups: all }, needed)))
}

fn named(resource: &str, name: &str) -> Target {
    Target {
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..Target::default()
    }
}

fn unreadable() -> Failure {
    Failure::new(400, "BadRequest", "impersonation: a name that is not plain text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut found = HeaderMap::new();
        for (name, value) in pairs {
            found.append(*name, value.parse().unwrap());
        }
        found
    }

    fn meant(pairs: &[(&'static str, &str)]) -> (Identity, Vec<String>) {
        let (who, needed) = asked(&headers(pairs)).unwrap().unwrap();
        let shown = |one: &Target| format!("{}/{}/{}", one.resource, one.namespace, one.name);
        (who, needed.iter().map(shown).collect())
    }

    #[test]
    fn nobody_is_meant_when_nothing_is_asked() {
        assert!(asked(&headers(&[("authorization", "x")])).unwrap().is_none());
    }

    #[test]
    fn a_user_comes_with_the_groups_that_were_asked_for() {
        let (who, needed) = meant(&[(USER, "ann"), (GROUP, "a"), (GROUP, "b")]);
        assert_eq!(
            (who.user.as_str(), who.groups),
            ("ann", ["a", "b", AUTHENTICATED].map(Into::into).to_vec())
        );
        assert_eq!(needed, ["users//ann", "groups//a", "groups//b"]);
    }

    #[test]
    fn an_account_comes_with_its_own_groups_unless_others_are_asked_for() {
        let user = "system:serviceaccount:ns:robot";
        let (who, needed) = meant(&[(USER, user)]);
        let own = [ACCOUNTS, "system:serviceaccounts:ns", AUTHENTICATED];
        assert_eq!(
            (who.groups, needed),
            (own.map(Into::into).to_vec(), vec!["serviceaccounts/ns/robot".into()])
        );
        assert_eq!(meant(&[(USER, user), (GROUP, "g")]).0.groups, ["g", AUTHENTICATED]);
    }

    #[test]
    fn nobody_known_is_not_authenticated() {
        assert_eq!(meant(&[(USER, ANONYMOUS)]).0.groups, [UNAUTHENTICATED]);
    }

    #[test]
    fn what_is_incomplete_or_not_supported_is_refused() {
        let code = |pairs: &[(&'static str, &str)]| asked(&headers(pairs)).unwrap_err().code;
        assert_eq!(code(&[(GROUP, "a")]), 500);
        assert_eq!(code(&[(UID, "1")]), 500);
        assert_eq!(code(&[(USER, "a"), (UID, "1")]), 403);
        assert_eq!(code(&[(USER, "a"), ("impersonate-extra-x", "1")]), 403);
        let many: Vec<_> = (0..=MAX_GROUPS).map(|_| (GROUP, "g")).chain([(USER, "a")]).collect();
        assert_eq!(code(&many), 400);
    }
}
