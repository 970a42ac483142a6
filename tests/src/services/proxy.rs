//! Stands between a server and who asks it, byte for byte, and does what networks do: refuse, cut, delay, and lose the answer to a
//! request that was carried out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A running proxy. It listens until the tests end, and refuses everybody once it is dropped.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    shut: AtomicBool,
    delay_us: AtomicU64,
    /// both ends of each connection; a cut takes them out
    open: Mutex<Vec<Connection>>,
    /// what a request has in it whose answer is to be lost, and how many more are
    losing: Mutex<(Vec<u8>, u64)>,
    lost: AtomicU64,
}

#[derive(Clone)]
struct Connection {
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
    /// a request comes through whose answer is lost
    loses: Arc<AtomicBool>,
    /// and the server has it
    passed: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of a server on this machine, `127.0.0.1:PORT`, which need not run yet.
    pub fn start(to: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (state, to) = (Arc::new(State::default()), to.to_string());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // What is refused is closed at once.
                if shared.shut.load(Ordering::SeqCst) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(&to) {
                    shared.clone().carry(client, server);
                }
            }
        });
        Proxy { port, state }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Closes all connections; new ones are let through.
    pub fn cut(&self) {
        let open = std::mem::take(&mut *lock(&self.state.open));
        open.iter().for_each(Connection::close);
    }

    /// Lets nobody through, and closes what is open; or opens again.
    pub fn shut(&self, shut: bool) {
        self.state.shut.store(shut, Ordering::SeqCst);
        if shut {
            self.cut();
        }
    }

    /// Everything takes this much longer, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.state.delay_us.store(u64::try_from(delay.as_micros()).expect("a short time"), Ordering::SeqCst);
    }

    /// The next `count` requests that have these bytes in them reach the server, their answers do not come back: when the server
    /// answers, the connection is cut. So the request was carried out, and who asked cannot know. (Where several are under way on
    /// one connection, the answer to an earlier one cuts it too; the request is with the server by then, if it came in one piece.)
    pub fn lose_answers(&self, to: &[u8], count: u64) {
        assert!(!to.is_empty(), "every request would have it");
        *lock(&self.state.losing) = (to.to_vec(), count);
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shut(true);
    }
}

impl State {
    fn carry(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client, server) = (Arc::new(client), Arc::new(server));
        let connection = Connection { client, server, loses: Arc::default(), passed: Arc::default() };
        lock(&self.open).push(connection.clone());
        // Shut in between: then nobody else would close it.
        if self.shut.load(Ordering::SeqCst) {
            connection.close();
        }
        let (state, requests) = (self.clone(), connection.clone());
        std::thread::spawn(move || {
            state.requests(&requests);
            let _ = requests.server.shutdown(Shutdown::Write);
        });
        std::thread::spawn(move || {
            self.answers(&connection);
            let _ = connection.client.shutdown(Shutdown::Write);
        });
    }

    fn requests(&self, connection: &Connection) {
        let mut buffer = vec![0; 64 << 10];
        // The end of what went through before: bytes that are looked for may come in two pieces.
        let mut tail: Vec<u8> = Vec::new();
        while let Ok(length @ 1..) = (&*connection.client).read(&mut buffer) {
            let piece = &buffer[..length];
            // What else comes before the cut is lost with it, and is none of those that are still to be lost.
            if !connection.loses.load(Ordering::SeqCst) && self.is_to_be_lost(&mut tail, piece) {
                connection.loses.store(true, Ordering::SeqCst);
            }
            self.wait();
            let written = (&*connection.server).write_all(piece).is_ok();
            if connection.loses.load(Ordering::SeqCst) {
                connection.passed.store(true, Ordering::SeqCst);
            }
            if !written {
                return;
            }
        }
    }

    fn answers(&self, connection: &Connection) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = (&*connection.server).read(&mut buffer) {
            if connection.loses.load(Ordering::SeqCst) {
                while !connection.passed.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                self.lost.fetch_add(1, Ordering::SeqCst);
                connection.close();
                return;
            }
            self.wait();
            if (&*connection.client).write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    }

    fn is_to_be_lost(&self, tail: &mut Vec<u8>, piece: &[u8]) -> bool {
        let mut losing = lock(&self.losing);
        let (wanted, count) = &mut *losing;
        if *count == 0 {
            tail.clear();
            return false;
        }
        tail.extend_from_slice(piece);
        let found = tail.windows(wanted.len()).any(|window| window == wanted.as_slice());
        if found {
            *count -= 1;
            tail.clear();
        } else {
            let keep = tail.len().min(wanted.len() - 1);
            tail.drain(..tail.len() - keep);
        }
        found
    }

    fn wait(&self) {
        let delay = self.delay_us.load(Ordering::SeqCst);
        if delay > 0 {
            std::thread::sleep(Duration::from_micros(delay));
        }
    }
}

impl Connection {
    fn close(&self) {
        let _ = (self.client.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
