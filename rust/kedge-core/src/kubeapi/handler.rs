// SPDX-License-Identifier: Apache-2.0
//! One request: about what it is, and who answers; `rights` says whether they may, `stored` answers from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT, VARY,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch as signal};

use super::audit::{Audit, Seen};
use super::auth::Authenticator;
use super::body::{Body, BodyReader, JSON, answer, refusal};
use super::config::{Catalogue, Config, Limits, seconds};
use super::documents::{Documents, Found, unchanged};
use super::face::Face;
use super::gzip;
use super::named;
use super::path::{self, Route, Target, Verb};
use super::patient::Patience;
use super::policy::{Identity, Policy};
use super::proxy::{self, Nodes};
use super::query::Query;
use super::queue::{Question, Questions, Reply};
use super::rbac::Rbac;
use super::replica::Replicated;
use super::status::Failure;
use super::usage::{self, Samples};
use crate::hub::client::Outlet;
use crate::kubelet::KubeletServer;
use crate::store::Store;

/// What all requests share.
pub(super) struct Handler {
    pub(super) store: Store,
    pub(super) face: Face,
    pub(super) catalogue: Catalogue,
    pub(super) policy: Policy,
    pub(super) rbac: Option<Rbac>,
    pub(super) authenticator: Authenticator,
    pub(super) documents: Documents,
    pub(super) questions: Arc<Questions>,
    pub(super) ready: AtomicBool,
    pub(super) closing: signal::Sender<bool>,
    pub(super) limits: Limits,
    pub(super) bodies: BodyReader,
    requests: Arc<Semaphore>,
    pub(super) watches: Arc<Semaphore>,
    pub(super) nodes: Nodes,
    /// On a node: what it reads itself, and the way to the cloud.
    pub(super) replica: Option<Replicated>,
    pub(super) samples: Samples,
    pub(super) audit: Option<Audit>,
    node_domain: String,
    version: Vec<u8>,
}

pub(super) type Answer = Result<Response<Body>, Failure>;

/// An answer that ends by itself may be compressed; the lines of a watch must not wait in a buffer.
pub(super) enum Answered {
    Whole(Response<Body>),
    Watch(Response<Body>),
}

/// A request on a resource, understood.
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
            audit: config.audit.map(Audit::open).transpose()?,
            node_domain: config.node_domain.to_ascii_lowercase(),
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
        let packs = gzip::accepted(request.headers());
        let answered = match &self.audit {
            None => self.answered(request, peer).await,
            Some(audit) => Box::pin(audit.follow(self, request, peer)).await,
        };
        match answered {
            Answered::Whole(response) if packs => gzip::compress(response, self.limits.gzip_bytes),
            Answered::Whole(response) | Answered::Watch(response) => response,
        }
    }

    /// The answer, not compressed yet; a failure is one too.
    pub(super) async fn answered(
        &self,
        request: Request<Incoming>,
        peer: Option<&Identity>,
    ) -> Answered {
        let node = named::node_of(&request, &self.node_domain);
        if node.is_none()
            && let Some(open) = self.open_to_all(request.uri().path())
        {
            return Answered::Whole(open);
        }
        let answered = match node {
            Some(node) => Box::pin(self.as_kubelet(&node, request, peer)).await,
            None => self.known(request, peer).await,
        };
        answered.unwrap_or_else(|failure| {
            let mut response = refusal(&failure);
            if failure.code == 401 {
                let scheme = HeaderValue::from_static("Bearer realm=\"kedge\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            Answered::Whole(response)
        })
    }

    /// Whether a request is for a node by its own name.
    pub(super) fn is_for_kubelet<B>(&self, request: &Request<B>) -> bool {
        named::node_of(request, &self.node_domain).is_some()
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
        let who = self.sender(request.headers(), peer)?;
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
        let call = Call { verb, target, query, who, accept };
        if let Some(replica) = &self.replica {
            return Box::pin(self.replicated(replica, call, request)).await;
        }
        self.allow(&call, verb)?;
        Seen::allowed(request.extensions());
        let resource = self.resource(&call)?;
        if proxy::is_for_node(&call.target) {
            return self.ask_node(&call, request).await;
        }
        if verb == "watch" {
            return self.watch(resource, &call).map(Answered::Watch);
        }
        if verb == "deletecollection" {
            self.options(resource, &call)?;
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

    fn document(&self, request: &Request<Incoming>, who: &Identity, accept: &str) -> Answer {
        let path = request.uri().path();
        if !self.may_url(who, "get", path) {
            let message = format!("User {:?} cannot get path {path:?}", who.user);
            return Err(Failure::new(403, "Forbidden", message));
        }
        Seen::allowed(request.extensions());
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(method_not_allowed(request.method()));
        }
        let document = match self.documents.find(path, accept) {
            Found::Nothing => return Err(Failure::no_such_path()),
            Found::NotYet => return Err(Failure::not_yet("being made, try again", 1)),
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

    /// Has Python decide.
    async fn ask(&self, call: Call, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let (body, _budget) = self.bodies.read(&head.headers, body).await?;
        Seen::body(&head.extensions, &body);
        let question = Question {
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: header(&head.headers, &CONTENT_TYPE),
            accept: call.accept,
            agent: header(&head.headers, &USER_AGENT),
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

pub(super) fn header(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

pub(super) fn method_not_allowed(method: &Method) -> Failure {
    let message = format!("the server does not allow {method} on the requested path");
    Failure::new(405, "MethodNotAllowed", message)
}
