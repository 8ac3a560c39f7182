// SPDX-License-Identifier: Apache-2.0
//! Answers from the store: an object, a list, a watch, in the shape that the client wishes.

use std::sync::Arc;
use std::time::Duration;

use super::accept::{self, Shape};
use super::body::{JSON, answer, streamed};
use super::config::{Resource, seconds};
use super::handler::{Answer, Call, Handler};
use super::path::Target;
use super::query::ListOptions;
use super::read::{self, View};
use super::status::Failure;
use super::table::Include;
use super::watch::{Lease, Times, Watch, error_line};
use crate::store::Selector;
use crate::{Error, Kind};

impl Handler {
    /// The resource that a call is about, if it is served in that way.
    pub(super) fn resource(&self, call: &Call) -> Result<&Resource, Failure> {
        let target = &call.target;
        let resource = self.catalogue.find(target).ok_or_else(Failure::no_such_path)?;
        let scoped = !target.namespace.is_empty();
        let named = !target.name.is_empty();
        if (scoped && !resource.row.namespaced)
            || (named && resource.row.namespaced && !scoped)
            || (!target.subresource.is_empty() && !resource.has(&target.subresource))
        {
            return Err(Failure::no_such_path());
        }
        if target.subresource.is_empty() && !resource.serves(call.verb) {
            let message = "the server does not allow this method on the requested resource";
            return Err(Failure::new(405, "MethodNotAllowed", message));
        }
        Ok(resource)
    }

    pub(super) fn get(&self, resource: &Resource, call: &Call) -> Answer {
        let options = self.options(resource, call)?;
        let version = options.start.unwrap_or(0);
        read::get(&self.store, resource, &call.target, version, self.view(call)?)
    }

    /// How objects of a kind are chosen.
    pub(super) fn options(&self, resource: &Resource, call: &Call) -> Result<ListOptions, Failure> {
        let mut options = ListOptions::parse(&call.query)?;
        if !options.fields.is_empty() {
            check_fields(resource, &options)?;
        }
        self.face.translate(&mut options)?;
        Ok(options)
    }

    pub(super) async fn list(&self, resource: &Resource, call: Call) -> Answer {
        let options = self.options(resource, &call)?;
        let view = self.view(&call)?;
        let (store, resource) = (self.store.clone(), resource.clone());
        let work = move || read::list(&store, &resource, &call.target, &options, view);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::new(Kind::Internal, format!("a list failed: {error}")))?
    }

    pub(super) fn watch(&self, resource: &Resource, call: &Call) -> Answer {
        let view = self.view(call)?;
        let mut options = match self.options(resource, call) {
            // Clients look for an expired revision in the stream.
            Err(failure) if failure.code == 410 => {
                return Ok(answer(200, media_type(view), error_line(&failure)));
            }
            options => options?,
        };
        if !call.target.name.is_empty() {
            options.fields = format!("metadata.name={}", call.target.name);
        }
        let permit = Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_full| Failure::busy("too many watches, try again", 5))?;
        let times = Times {
            bookmark: seconds(self.limits.bookmark_seconds),
            whole: self.watch_time(options.timeout_seconds),
        };
        let lease = Lease { closing: self.closing.subscribe(), permit, times };
        let target = Target { name: String::new(), ..call.target.clone() };
        let begun = Watch::begin(&self.store, resource, &target, &options, view, lease);
        match begun {
            Ok(watch) => Ok(streamed(media_type(view), watch.stream())),
            Err(failure) if failure.code == 410 => {
                Ok(answer(200, media_type(view), error_line(&failure)))
            }
            Err(failure) => Err(failure),
        }
    }

    fn view(&self, call: &Call) -> Result<View, Failure> {
        let shape = accept::shape(&call.accept)?;
        let text = call.query.get("includeObject");
        let include = Include::parse(text).ok_or_else(|| {
            let message = format!("includeObject: wanted None, Metadata or Object, got: {text:?}");
            Failure::new(400, "BadRequest", message)
        })?;
        Ok(View { shape, include, face: self.face })
    }

    /// What the client asks for, else between one and two times the default, so that the watches
    /// of many clients do not end together.
    fn watch_time(&self, asked: Option<u64>) -> Duration {
        const DAY: u64 = 86_400;
        match asked {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(DAY)),
            _ => {
                let nanos = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |elapsed| elapsed.subsec_nanos());
                seconds(self.limits.watch_seconds * (1.0 + f64::from(nanos) / 1e9))
            }
        }
    }
}

/// Refuses a selector of fields that objects of this kind are not told apart by.
fn check_fields(resource: &Resource, options: &ListOptions) -> Result<(), Failure> {
    let selector = Selector::parse("", &options.fields)?;
    let Some(field) = selector.fields().find(|field| !resource.selects(field)) else {
        return Ok(());
    };
    let message = format!(
        "Unable to find {:?} that match label selector {:?}, field selector {:?}: field label not supported: {field}",
        format!(
            "{}/{}, Resource={}",
            resource.row.group, resource.row.version, resource.row.resource
        ),
        options.labels,
        options.fields,
    );
    Err(Failure::new(400, "BadRequest", message))
}

fn media_type(view: View) -> &'static str {
    match view.shape {
        Shape::Object => JSON,
        Shape::Table => "application/json;as=Table;g=meta.k8s.io;v=v1",
        Shape::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    }
}
