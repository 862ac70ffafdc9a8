//! `POST …/pipeline`: requests of one stream, in order.

use std::sync::Arc;

use http::{Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Duration;
use verge_types::Body;

use super::streams::{HttpStream, keep, take};
use crate::rows::Budget;
use crate::service::{Failure, Shared, respond};
use crate::stored_sql::{StoreError, Work};
use crate::{
    Access, Encoding, Error, Limits, PipelineResponse, StreamRequest, StreamResponse, codes,
};

pub async fn answer_pipeline(
    shared: &Arc<Shared>,
    encoding: Encoding,
    access: Access,
    body: &[u8],
) -> Result<Response<Body>, Failure> {
    let request = encoding
        .read_pipeline(body)
        .map_err(|malformed| Error::caller(codes::MESSAGE_INVALID, malformed.to_string()))?;
    let limits = &shared.limits;
    if request.requests.len() > limits.pipeline_requests {
        let message = format!("a pipeline may have {} requests", limits.pipeline_requests);
        return Err(Error::caller(codes::PIPELINE_LIMIT, message).into());
    }
    let mut stream = Some(take(shared, request.baton.as_deref(), access)?);
    let mut results = Vec::with_capacity(request.requests.len());
    let mut budget = Budget::new(limits);
    for request in request.requests {
        let closes = request == StreamRequest::Close;
        let result = match &mut stream {
            Some(stream) => perform(stream, request, budget, limits).await,
            None => Err(Error::caller(codes::STREAM_CLOSED, "the stream is closed")),
        };
        if closes {
            stream = None;
        }
        if let Ok(response) = &result {
            budget = budget.after(response);
        }
        results.push(result);
    }
    let baton = stream.map(|stream| keep(shared, stream, Duration::ZERO));
    let response = PipelineResponse { baton, base_url: shared.base_url.clone(), results };
    Ok(respond(StatusCode::OK, encoding, encoding.write_pipeline(response)))
}

async fn perform(
    stream: &mut HttpStream,
    request: StreamRequest,
    budget: Budget,
    limits: &Limits,
) -> Result<StreamResponse, Error> {
    let stored = &mut stream.stored;
    let work = match request {
        StreamRequest::StoreSql { sql_id, sql } => {
            return match stored.store(sql_id, sql, limits) {
                Ok(()) => Ok(StreamResponse::StoreSql),
                Err(StoreError::Full(error)) => Err(error),
                Err(StoreError::InUse) => Err(Error::caller(
                    codes::SQL_ID_IN_USE,
                    format!("SQL id {sql_id} is in use on this stream"),
                )),
            };
        }
        StreamRequest::CloseSql { sql_id } => {
            stored.close(sql_id);
            return Ok(StreamResponse::CloseSql);
        }
        StreamRequest::Close => Work::Close,
        StreamRequest::Execute(stmt) => Work::Execute(stored.step(stmt)?),
        StreamRequest::Batch(batch) => Work::Batch(stored.steps(batch)?),
        StreamRequest::Sequence(sql) => Work::Sequence(stored.text(sql)?),
        StreamRequest::Describe(sql) => Work::Describe(stored.text(sql)?),
        StreamRequest::GetAutocommit => Work::GetAutocommit,
    };
    let closes = work == Work::Close;
    let (answered, answer) = oneshot::channel();
    let reply = Box::new(move |told| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        // If nobody waits any more, nobody needs the answer.
        let _ = answered.send(told);
        Box::pin(std::future::ready(()))
    });
    match stream.handle.work(work, budget, reply) {
        Ok(()) => answer.await.unwrap_or_else(|_| {
            Err(Error::platform(codes::CANCELLED, "the stream ended while the request was running"))
        }),
        // Ended by itself before: closed is what the client wants.
        Err(_) if closes => Ok(StreamResponse::Close),
        Err((_, error)) => Err(error),
    }
}
