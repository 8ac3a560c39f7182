// SPDX-License-Identifier: Apache-2.0
//! One request: who asks, about what, whether they may, and who answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch as signal};

use super::About;
use super::accept::{self, Shape};
use super::auth::{AUTHENTICATED, Authenticator};
use super::body::{Body, BodyReader, JSON, answer, refusal, streamed};
use super::config::{Catalogue, Config, Limits, Resource, seconds};
use super::documents::{Documents, Found, unchanged};
use super::face::Face;
use super::gzip;
use super::path::{self, Route, Target, Verb};
use super::patient::Patience;
use super::policy::{Identity, Policy};
use super::proxy::{self, Nodes};
use super::query::{ListOptions, Query};
use super::queue::{Question, Questions, Reply};
use super::rbac::{Access, Rbac};
use super::read::{self, View};
use super::replica::Replicated;
use super::status::Failure;
use super::table::Include;
use super::usage::{self, Samples};
use super::watch::{Lease, Times, Watch, error_line};
use crate::hub::client::Outlet;
use crate::kubelet::KubeletServer;
use crate::store::{Selector, Store};
use crate::{Error, Kind};

/// What all requests share.
pub(super) struct Handler {
    pub(super) store: Store,
    pub(super) face: Face,
    catalogue: Catalogue,
    policy: Policy,
    rbac: Option<Rbac>,
    pub(super) authenticator: Authenticator,
    pub(super) documents: Documents,
    pub(super) questions: Arc<Questions>,
    pub(super) ready: AtomicBool,
    pub(super) closing: signal::Sender<bool>,
    pub(super) limits: Limits,
    pub(super) bodies: BodyReader,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    pub(super) nodes: Nodes,
    /// On a node: what it reads itself, and the way to the cloud.
    pub(super) replica: Option<Replicated>,
    pub(super) samples: Samples,
    version: Vec<u8>,
}

/// Ignoring it would answer with the rights of who asks instead of those of who is meant.
const IMPERSONATE: &str = "impersonate-user";

pub(super) type Answer = Result<Response<Body>, Failure>;

/// An answer that ends by itself may be compressed; the lines of a watch must not wait in a buffer.
pub(super) enum Answered {
    Whole(Response<Body>),
    Watch(Response<Body>),
}

/// A request on a resource, understood and allowed.
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) who: Identity,
    pub(super) accept: String,
}

impl Handler {
    /// A handler that reads `store` and serves what `config` says.
    pub(super) fn new(
        store: Store,
        config: Config,
        outlet: Option<Outlet>,
        kubelet: Option<KubeletServer>,
    ) -> crate::Result<Self> {
        let limits = config.limits;
        let documents = Documents::default();
        if let Some(replica) = &config.replica
            && !replica.documents.as_os_str().is_empty()
        {
            documents.load(&replica.documents)?;
        }
        let body_timeout = seconds(limits.body_seconds);
        let rbac_store = store.clone();
        Ok(Self {
            store,
            catalogue: Catalogue::new(&config.resources),
            authenticator: Authenticator::new(&config)?,
            documents,
            questions: Questions::new(limits.queue, seconds(limits.answer_seconds))?,
            ready: AtomicBool::new(true),
            closing: signal::Sender::new(false),
            bodies: BodyReader::new(limits.body_bytes, limits.all_bodies_bytes, body_timeout),
            requests: Arc::new(Semaphore::new(limits.requests)),
            watches: Arc::new(Semaphore::new(limits.watches)),
            nodes: Nodes::of(kubelet),
            face: config.replica.as_ref().map_or_else(Face::default, |of| Face::replica(of.base)),
            replica: config.replica.map(|replica| Replicated::new(replica, outlet)),
            samples: Samples::default(),
            version: config.version.to_string().into_bytes(),
            policy: config.policy,
            rbac: config.rbac.then(|| Rbac::new(rbac_store)),
            limits,
        })
    }

    /// Answers `request` of a client whose certificate names `peer`.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        peer: Option<&Identity>,
    ) -> Response<Body> {
        if let Some(open) = self.open_to_all(request.uri().path()) {
            return open;
        }
        let packs = gzip::accepted(request.headers());
        match self.known(request, peer).await {
            Ok(Answered::Whole(response)) if packs => {
                gzip::compress(response, self.limits.gzip_bytes)
            }
            Ok(Answered::Whole(response) | Answered::Watch(response)) => response,
            Err(failure) => {
                let mut response = refusal(&failure);
                if failure.code == 401 {
                    let scheme = HeaderValue::from_static("Bearer realm=\"kedge\"");
                    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                }
                response
            }
        }
    }

    /// Health and version: the only answers for everyone.
    fn open_to_all(&self, path: &str) -> Option<Response<Body>> {
        match path {
            "/healthz" | "/livez" => Some(answer(200, "text/plain; charset=utf-8", "ok")),
            "/readyz" if self.ready.load(Ordering::Relaxed) => {
                Some(answer(200, "text/plain; charset=utf-8", "ok"))
            }
            "/readyz" => Some(answer(503, "text/plain; charset=utf-8", "not ready")),
            "/version" | "/version/" => Some(answer(200, JSON, self.version.clone())),
            _ => None,
        }
    }

    async fn known(
        &self,
        request: Request<Incoming>,
        peer: Option<&Identity>,
    ) -> Result<Answered, Failure> {
        let who = self.authenticate(request.headers(), peer)?;
        if request.headers().contains_key(IMPERSONATE) {
            return Err(Failure::new(403, "Forbidden", "impersonation is not supported"));
        }
        let accept = header(request.headers(), &ACCEPT);
        let route = path::parse(request.uri().path())?;
        let Route::Resource(target) = route else {
            let found = self.document(&request, &who, &accept);
            return match (&self.replica, found) {
                (Some(replica), Err(failure)) if failure.code == 404 => {
                    self.pass(replica, request, None).await
                }
                (_, found) => found.map(Answered::Whole),
            };
        };
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let verb = target
            .verb(request.method(), query.flag("watch")?)
            .ok_or_else(|| method_not_allowed(request.method()))?;
        if let Some(replica) = &self.replica {
            let call = Call { verb, target, query, who, accept };
            return Box::pin(self.replicated(replica, call, request)).await;
        }
        if !self.may_call(&who, verb, &target, &query) {
            return Err(forbidden(&who, verb, &target));
        }
        let call = Call { verb, target, query, who, accept };
        let resource = self.resource(&call)?;
        if proxy::is_for_node(&call.target) {
            return self.ask_node(&call, request).await;
        }
        if verb == "watch" {
            return self.watch(resource, &call).map(Answered::Watch);
        }
        let _permit = self.request_permit()?;
        if usage::is_usage(&call.target) {
            let Call { target, query, .. } = &call;
            let served = usage::serve(&self.samples, &self.nodes, &self.store, target, query);
            return Box::pin(served).await.map(Answered::Whole);
        }
        let reads_object = matches!(
            call.target.subresource.as_str(),
            "" | "ephemeralcontainers" | "resize" | "status"
        );
        let answer = match verb {
            "get" if reads_object => self.get(resource, &call),
            "list" => self.list(resource, call).await,
            _ => self.ask(call, request).await,
        };
        answer.map(Answered::Whole)
    }

    /// Has the node answer that a request is for.
    pub(super) async fn ask_node(
        &self,
        call: &Call,
        request: Request<Incoming>,
    ) -> Result<Answered, Failure> {
        let permit = self.stream_permit()?;
        let Call { target, query, .. } = call;
        if let (Some(patience), "pods") =
            (request.extensions().get::<Patience>(), target.resource.as_str())
        {
            // A person may stop the output and go away; nothing but this stream waits for it.
            patience.set(seconds(self.limits.stream_write_seconds));
        }
        let passed = proxy::pass(&self.nodes, &self.store, target, query, request, permit);
        Box::pin(passed).await.map(Answered::Watch)
    }

    /// Whether `who` may do `verb` on what a request is about.
    pub(super) fn may_call(
        &self,
        who: &Identity,
        verb: Verb,
        target: &Target,
        query: &Query,
    ) -> bool {
        let fields = query.get("fieldSelector");
        let chosen = if fields.is_empty() { None } else { Selector::parse("", fields).ok() };
        let name = match target.name.as_str() {
            "" => chosen.as_ref().and_then(|fields| fields.exact_field("metadata.name")),
            name => Some(name),
        };
        let about = About {
            group: &target.group,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: name.unwrap_or_default(),
        };
        self.may(who, verb, &about)
    }

    /// Whether `who` may do `verb` on a resource.
    pub(super) fn may(&self, who: &Identity, verb: &str, about: &About<'_>) -> bool {
        if self.policy.allows(who, verb, about) {
            return true;
        }
        let About { group, resource, subresource, namespace, name } = *about;
        let access = Access::Resource { verb, group, resource, subresource, name };
        self.rbac.as_ref().is_some_and(|rbac| rbac.allows(who, namespace, &access))
    }

    /// Whether `who` may do `verb` on a path that is no resource.
    pub(super) fn may_url(&self, who: &Identity, verb: &str, path: &str) -> bool {
        let access = Access::Url { verb, path };
        self.policy.allows_url(who, path)
            || self.rbac.as_ref().is_some_and(|rbac| rbac.allows(who, "", &access))
    }

    /// What `who` may do in `namespace`: the rules of a `SelfSubjectRulesReview`.
    pub(super) fn rules(&self, who: &Identity, namespace: &str) -> Value {
        let (mut resources, mut urls) = self.policy.rules(who, namespace);
        if let Some(rbac) = &self.rbac {
            let (more, more_urls) = rbac.rules(who, namespace);
            resources.extend(more);
            urls.extend(more_urls);
        }
        json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
    }

    /// Whether `who` may do everything whatever roles say.
    pub(super) fn policy_allows_all(&self, who: &Identity) -> bool {
        self.policy.allows(who, "*", &About { group: "*", resource: "*", ..About::default() })
    }

    /// What of `rules` somebody lacks.
    pub(super) fn lacks(
        &self,
        who: &Identity,
        namespace: &str,
        rules: &str,
    ) -> crate::Result<Vec<String>> {
        match &self.rbac {
            Some(rbac) if !self.policy_allows_all(who) => rbac.missing(who, namespace, rules),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn request_permit(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.requests
            .try_acquire()
            .map_err(|_full| Failure::busy("too many requests at a time, try again", 1))
    }

    /// Streams from nodes are counted with the watches, not with the quick requests, to their end.
    pub(super) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_full| Failure::busy("too many streams, try again", 5))
    }

    fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&Identity>,
    ) -> Result<Identity, Failure> {
        let anonymous = || Failure::new(401, "Unauthorized", "Unauthorized");
        if let Some(peer) = peer {
            let mut who = peer.clone();
            who.groups.push(AUTHENTICATED.to_owned());
            return Ok(who);
        }
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) =
            value.and_then(|value| value.split_once(' ')).ok_or_else(anonymous)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(anonymous());
        }
        self.authenticator.bearer(token.trim(), &self.store).map_err(|error| {
            log::debug!("bearer token refused: {error}");
            if error.kind == Kind::Unauthorized { anonymous() } else { error.into() }
        })
    }

    fn document(&self, request: &Request<Incoming>, who: &Identity, accept: &str) -> Answer {
        let path = request.uri().path();
        if !self.may_url(who, "get", path) {
            let message = format!("User {:?} cannot get path {path:?}", who.user);
            return Err(Failure::new(403, "Forbidden", message));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(method_not_allowed(request.method()));
        }
        let document = match self.documents.find(path, accept) {
            Found::Nothing => return Err(Failure::no_such_path()),
            Found::NotAcceptable => {
                let message = format!("no representation of {path:?} in an accepted media type");
                return Err(Failure::new(406, "NotAcceptable", message));
            }
            Found::Document(document) => document,
        };
        let known = header(request.headers(), &IF_NONE_MATCH);
        let mut response = if unchanged(&known, &document.etag) {
            answer(304, &document.media_type, "")
        } else {
            answer(200, &document.media_type, document.body)
        };
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        if let (false, Ok(etag)) = (document.etag.is_empty(), HeaderValue::from_str(&document.etag))
        {
            headers.insert(ETAG, etag);
        }
        Ok(response)
    }

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
        let options = self.options(call)?;
        let version = options.start.unwrap_or(0);
        read::get(&self.store, resource, &call.target, version, self.view(call)?)
    }

    fn options(&self, call: &Call) -> Result<ListOptions, Failure> {
        let mut options = ListOptions::parse(&call.query)?;
        self.face.translate(&mut options)?;
        Ok(options)
    }

    pub(super) async fn list(&self, resource: &Resource, call: Call) -> Answer {
        let options = self.options(&call)?;
        let view = self.view(&call)?;
        let (store, resource) = (self.store.clone(), resource.clone());
        let work = move || read::list(&store, &resource, &call.target, &options, view);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::new(Kind::Internal, format!("a list failed: {error}")))?
    }

    pub(super) fn watch(&self, resource: &Resource, call: &Call) -> Answer {
        let view = self.view(call)?;
        let mut options = match self.options(call) {
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

    /// Has Python decide.
    async fn ask(&self, call: Call, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let (body, _budget) = self.bodies.read(&head.headers, body).await?;
        let question = Question {
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: header(&head.headers, &CONTENT_TYPE),
            accept: call.accept,
            body,
            ..Question::new(call.target, call.who)
        };
        let reply = self.questions.ask(question).await?;
        Ok(said_by_python(reply))
    }
}

fn said_by_python(reply: Reply) -> Response<Body> {
    let mut response = answer(reply.status, &reply.content_type, reply.body);
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn media_type(view: View) -> &'static str {
    match view.shape {
        Shape::Object => JSON,
        Shape::Table => "application/json;as=Table;g=meta.k8s.io;v=v1",
        Shape::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    }
}

pub(super) fn header(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

fn method_not_allowed(method: &Method) -> Failure {
    let message = format!("the server does not allow {method} on the requested path");
    Failure::new(405, "MethodNotAllowed", message)
}

pub(super) fn forbidden(who: &Identity, verb: Verb, target: &Target) -> Failure {
    let mut resource = target.resource.clone();
    if !target.subresource.is_empty() {
        resource = format!("{resource}/{}", target.subresource);
    }
    let scope = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let name = if target.name.is_empty() { String::new() } else { format!(" {:?}", target.name) };
    let qualified = super::status::qualified(&target.resource, &target.group);
    let message = format!(
        "{qualified}{name} is forbidden: User {:?} cannot {verb} resource {resource:?} in API group {:?} {scope}",
        who.user, target.group
    );
    let details = json!({"name": target.name, "group": target.group, "kind": target.resource});
    Failure { details: Some(Box::new(details)), ..Failure::new(403, "Forbidden", message) }
}
