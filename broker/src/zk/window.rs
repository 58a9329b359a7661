//! Pipelined requests to the store: many begun at once, answered in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use super::{BoxFuture, Error, Node, Store};

/// Requests in flight at once: enough to hide the round trip, little enough to queue fairly
/// behind other users of the session.
const WINDOW: usize = 256;

/// Runs the futures with at most 256 begun at once, each begun in its turn; results in
/// order.
pub async fn in_window<'a, T: Send + 'a>(futures: Vec<BoxFuture<'a, T>>) -> Vec<T> {
    in_window_of(WINDOW, futures).await
}

/// [`in_window`] of another size, for requests that are large themselves.
pub(super) async fn in_window_of<'a, T: Send + 'a>(
    window: usize,
    futures: Vec<BoxFuture<'a, T>>,
) -> Vec<T> {
    let mut waiting = futures.into_iter();
    let mut begun: VecDeque<BoxFuture<'a, T>> = VecDeque::new();
    let mut results = Vec::new();
    poll_fn(|cx| {
        loop {
            // The oldest first: the store answers in order.
            while let Some(oldest) = begun.front_mut() {
                match oldest.as_mut().poll(cx) {
                    Poll::Ready(result) => {
                        results.push(result);
                        begun.pop_front();
                    }
                    Poll::Pending => break,
                }
            }
            if begun.len() >= window {
                return Poll::Pending;
            }
            let Some(mut next) = waiting.next() else {
                return if begun.is_empty() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            };
            match next.as_mut().poll(cx) {
                Poll::Ready(result) if begun.is_empty() => results.push(result),
                Poll::Ready(result) => begun.push_back(Box::pin(std::future::ready(result))),
                Poll::Pending => begun.push_back(next),
            }
        }
    })
    .await;
    results
}

/// Reads nodes by one request each; `None` where there is no node.
pub(super) async fn get_each<S: Store + ?Sized>(
    store: &S,
    paths: &[String],
) -> Result<Vec<Option<Node>>, Error> {
    let reads = paths
        .iter()
        .map(|path| -> BoxFuture<'_, _> {
            Box::pin(async move {
                match store.get(path).await {
                    Ok(node) => Ok(Some(node)),
                    Err(Error::NoNode { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            })
        })
        .collect();
    in_window(reads).await.into_iter().collect()
}
