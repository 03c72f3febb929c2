// SPDX-License-Identifier: MIT
//! Tokio's unbounded channel between threads or processes, with the standard library only.
//!
//!     rustc channel.rs && ./channel
use std::fs::{File, OpenOptions};
use std::io::{Error, Result, Write};
use std::os::unix::io::{AsRawFd, FromRawFd};
use std::os::raw::{c_int, c_ulong};

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

/// A call of <linux/umpsc.h>; direction 0 takes its argument by value.
fn call(file: &File, direction: c_ulong, number: c_ulong, size: usize, arg: c_ulong) -> Result<c_int> {
    let request = direction << 30 | (size as c_ulong) << 16 | 0xD5 << 8 | number;
    match unsafe { ioctl(file.as_raw_fd(), request, arg) } {
        -1 => Err(Error::last_os_error()),
        result => Ok(result),
    }
}

pub struct Sender(File);
pub struct Receiver(File);

/// struct umpsc_channel_args: flags, limits, and the two descriptors in the end.
pub fn unbounded_channel() -> Result<(Sender, Receiver)> {
    let manager = OpenOptions::new().read(true).write(true).open("/dev/umpsc")?;
    let mut args = [0u32; 12];
    call(&manager, 3, 0x01, 48, args.as_mut_ptr() as c_ulong)?;
    let file = |fd: u32| unsafe { File::from_raw_fd(fd as c_int) };
    Ok((Sender(file(args[11])), Receiver(file(args[10]))))
}

impl Sender {
    /// One write is one message.  It never waits for the receiver.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        (&self.0).write(message).map(drop)
    }

    pub fn try_clone(&self) -> Result<Sender> {
        call(&self.0, 0, 0x11, 0, 0).map(|fd| Sender(unsafe { File::from_raw_fd(fd) }))
    }
}

impl Receiver {
    /// The next message; None when no sender is left.
    pub fn recv(&mut self) -> Result<Option<Vec<u8>>> {
        let mut memory = vec![0u8; 4096];
        loop {
            // struct umpsc_recv_args: address, length, deadline, max and flags (in one, as little-endian
            // machines have them), used, need
            let mut args = [memory.as_mut_ptr() as u64, memory.len() as u64, u64::MAX, 1, 0, 0];
            match call(&self.0, 3, 0x20, 48, args.as_mut_ptr() as c_ulong) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(90) => memory.resize(args[5] as usize, 0), // EMSGSIZE
                Err(error) => return Err(error),
            }
        }
        // struct umpsc_record: the length of the payload, and of the header before it
        let len = u32::from_ne_bytes(memory[0..4].try_into().unwrap()) as usize;
        let hdr = u16::from_ne_bytes(memory[4..6].try_into().unwrap()) as usize;
        memory.truncate(hdr + len);
        Ok(Some(memory.split_off(hdr)))
    }
}

fn main() -> Result<()> {
    let (sender, mut receiver) = unbounded_channel()?;
    for thread in 0..3 {
        let sender = sender.try_clone()?;
        std::thread::spawn(move || {
            for number in 0..3 {
                sender.send(format!("thread {thread}: {number}").as_bytes()).unwrap();
            }
            sender.send(&vec![b'x'; 100000]).unwrap();
        });
    }
    drop(sender); // or the end would never come
    while let Some(message) = receiver.recv()? {
        match String::from_utf8(message) {
            Ok(text) if text.len() < 100 => println!("{text}"),
            Ok(text) => println!("{} bytes", text.len()),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}
