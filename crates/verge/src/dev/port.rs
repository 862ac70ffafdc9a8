//! The port of one place: open, cut as by a crash, open again.

use tokio::sync::watch as signal;
use tokio::task::JoinHandle;
use verge_gateway::Cutter;

use super::listen::{self, Wanted};
use crate::failure::Failure;

pub struct Port {
    pub number: u16,
    /// With the number that was found the first time.
    wanted: Wanted,
    stopped: signal::Receiver<bool>,
    serving: tokio::sync::Mutex<Option<Serving>>,
}

struct Serving {
    cutters: Vec<Cutter>,
    task: JoinHandle<()>,
}

impl Port {
    pub async fn open(
        mut wanted: Wanted,
        stopped: signal::Receiver<bool>,
    ) -> Result<Self, Failure> {
        let listener = listen::bind(&wanted).await?;
        let number = listener.port;
        wanted.port = Some(number);
        let serving = serve(listener, &stopped);
        Ok(Self { number, wanted, stopped, serving: tokio::sync::Mutex::new(Some(serving)) })
    }

    /// Nobody is waited for: connections break off, and new ones are refused.
    pub async fn cut(&self) {
        let Some(Serving { cutters, task }) = self.serving.lock().await.take() else { return };
        for cutter in cutters {
            cutter.cut();
        }
        let _ = task.await;
    }

    pub async fn reopen(&self) -> Result<(), Failure> {
        let mut serving = self.serving.lock().await;
        if serving.is_none() && !*self.stopped.borrow() {
            *serving = Some(serve(listen::bind(&self.wanted).await?, &self.stopped));
        }
        Ok(())
    }

    /// Returns once the process is to end and running requests are answered.
    pub async fn closed(&self) {
        let mut stopped = self.stopped.clone();
        // The other end gone is a reason to stop as well.
        let _ = stopped.wait_for(|stop| *stop).await;
        let serving = self.serving.lock().await.take();
        if let Some(Serving { task, .. }) = serving {
            let _ = task.await;
        }
    }
}

fn serve(listener: listen::Listener, stopped: &signal::Receiver<bool>) -> Serving {
    let cutters = listener.cutters();
    let task = tokio::spawn(listener.serve(stopped.clone()));
    Serving { cutters, task }
}
