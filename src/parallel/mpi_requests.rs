//! The FFI corner: MPI requests that own their buffers, over the raw C interface.
//!
//! rsmpi's own requests borrow their buffers from a scope and panic when dropped unfinished. Here a request owns what
//! MPI reads or writes; it gives it back when MPI reports completion, and leaks it if dropped before.
//!
//! **Messages above 2³¹ − 1 bytes.** MPI counts in C ints. A longer message is one element of a derived type: some
//! blocks of 1 GiB and a rest. By its type signature it is still a row of bytes, so that one receive matches one send
//! whatever lengths the two sides declared, and the true length comes from `MPI_Get_elements_x`.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::os::raw::{c_int, c_void};

use mpi::environment::Universe;
use mpi::ffi;

use super::communicator::{Completed, MAX_TAG};
use super::error::{Awaited, CommError, Operation};

/// Messages longer than this are sent as blocks of this.
const BLOCK: u32 = 1 << 30;

/// The tag of the receive that nothing ever matches.
const PARKED_TAG: u16 = MAX_TAG;

/// A duplicate of `MPI_COMM_WORLD` on which errors return. It exists only while MPI runs, and only on the thread that
/// started MPI (it is not `Send`).
///
/// The duplicate is never freed: freeing is collective, and a rank that leaves with an error must not wait for others.
pub(super) struct Channel {
    communicator: ffi::MPI_Comm,
    rank: usize,
    block: u32,
    /// A receive that never completes, tested to make MPI work on all the others.
    parked: Cell<ffi::MPI_Request>,
    /// Second buffers of sums, for reuse.
    spare: RefCell<Vec<Vec<f64>>>,
    _this_thread_only: PhantomData<*const ()>,
}

impl Channel {
    /// Duplicates the world. The universe shows that MPI runs; the caller keeps it for longer than the channel.
    pub fn over_world(_running: &Universe, rank: usize, size: usize) -> Result<Self, CommError> {
        let awaited = Awaited { rank, operation: Operation::Sum, peer: None, tag: 0, purpose: "starting" };
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: MPI runs, as the universe shows; the constants of the C shim are initialised by the linker; both
        // calls write at most one handle, to a place that outlives them.
        let communicator = unsafe {
            check(
                awaited,
                "MPI_Comm_set_errhandler",
                ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN),
            )?;
            let code = ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, communicator.as_mut_ptr());
            check(awaited, "MPI_Comm_dup", code)?;
            communicator.assume_init()
        };
        // SAFETY: as above. The receive is of zero bytes, so that the null buffer is never written.
        let parked = unsafe {
            let code = ffi::MPI_Comm_set_errhandler(communicator, ffi::RSMPI_ERRORS_RETURN);
            check(awaited, "MPI_Comm_set_errhandler", code)?;
            let mut request = ffi::RSMPI_REQUEST_NULL;
            let from = ((rank + 1) % size) as c_int;
            let bytes = ffi::RSMPI_UINT8_T;
            let tag = c_int::from(PARKED_TAG);
            let code = ffi::MPI_Irecv(std::ptr::null_mut(), 0, bytes, from, tag, communicator, &mut request);
            check(awaited, "MPI_Irecv", code)?;
            request
        };
        let spare = RefCell::default();
        Ok(Channel {
            communicator,
            rank,
            block: BLOCK,
            parked: Cell::new(parked),
            spare,
            _this_thread_only: PhantomData,
        })
    }

    pub fn set_block_length(&mut self, bytes: u32) {
        self.block = bytes.clamp(1, BLOCK);
    }

    pub fn progress(&self) -> Result<(), CommError> {
        let rank = self.rank;
        let awaited = Awaited { rank, operation: Operation::Sum, peer: None, tag: 0, purpose: "in progress" };
        let mut request = self.parked.get();
        let mut flag = 0;
        // SAFETY: MPI runs while the channel exists; the handle is the parked receive's, or null if an earlier test
        // failed, which MPI allows; flag outlives the call.
        let code = unsafe { ffi::MPI_Test(&mut request, &mut flag, ffi::RSMPI_STATUS_IGNORE) };
        self.parked.set(request);
        check(awaited, "MPI_Test", code)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut request = self.parked.get();
        // SAFETY: MPI still runs, because the universe outlives the channel. Cancelling and releasing the parked
        // receive is local; it has no buffer that MPI could still write to.
        unsafe {
            if request != ffi::RSMPI_REQUEST_NULL {
                ffi::MPI_Cancel(&mut request);
                ffi::MPI_Request_free(&mut request);
            }
        }
    }
}

/// How a message is cut: `blocks` of the block length, then `rest` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    blocks: c_int,
    rest: c_int,
}

impl Cut {
    /// None if even the number of blocks is too large for MPI.
    fn of(len: usize, block: u32) -> Option<Cut> {
        let block = usize::try_from(block).ok()?;
        Some(Cut { blocks: c_int::try_from(len / block).ok()?, rest: c_int::try_from(len % block).ok()? })
    }
}

/// Count and type under which `len` bytes are passed to MPI. A derived type is freed when this is dropped, which MPI
/// allows as soon as an operation with it has been posted.
struct Bytes {
    count: c_int,
    datatype: ffi::MPI_Datatype,
    derived: bool,
}

impl Bytes {
    fn new(channel: &Channel, awaited: Awaited, len: usize) -> Result<Self, CommError> {
        // SAFETY: reads of handles that the C shim defines.
        let (byte, mut datatype) = unsafe { (ffi::RSMPI_UINT8_T, ffi::RSMPI_DATATYPE_NULL) };
        let block = channel.block as usize;
        if len <= block {
            return Ok(Bytes { count: len as c_int, datatype: byte, derived: false });
        }
        let cut = Cut::of(len, channel.block).ok_or(CommError::Memory(len))?;
        let mut block_type = datatype;
        let lengths = [cut.blocks, cut.rest];
        let displacements = [0, (cut.blocks as usize * block) as ffi::MPI_Aint];
        // SAFETY: MPI runs while the channel exists. The arrays have the two entries announced; the block length is at
        // most 2³⁰. The type built covers exactly bytes 0 to len − 1. The inner type may be freed once it is used.
        unsafe {
            let code = ffi::MPI_Type_contiguous(block as c_int, byte, &mut block_type);
            check(awaited, "MPI_Type_contiguous", code)?;
            let types = [block_type, byte];
            let code = ffi::MPI_Type_create_struct(
                2,
                lengths.as_ptr(),
                displacements.as_ptr(),
                types.as_ptr(),
                &mut datatype,
            );
            ffi::MPI_Type_free(&mut block_type);
            check(awaited, "MPI_Type_create_struct", code)?;
            let whole = Bytes { count: 1, datatype, derived: true };
            check(awaited, "MPI_Type_commit", ffi::MPI_Type_commit(&mut datatype))?;
            Ok(whole)
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.derived {
            // SAFETY: the handle is of a derived type that this value made and nobody else frees. A `Bytes` lives only
            // within one call on a channel, so that MPI runs.
            unsafe { ffi::MPI_Type_free(&mut self.datatype) };
        }
    }
}

/// What MPI reads or writes until the request completes.
#[derive(Debug)]
enum Buffers {
    Send(Vec<u8>),
    Receive { buffer: Vec<u8>, max_len: usize },
    Sum { values: Vec<f64>, sums: Vec<f64> },
    Empty,
}

/// An MPI request and its buffers. Vectors may be moved while MPI uses their contents, because the contents stay where
/// they are; nothing here reads, grows or frees a vector before completion.
#[derive(Debug)]
pub(super) struct MpiRequest {
    request: ffi::MPI_Request,
    /// Never dropped by itself: handed out on completion, leaked otherwise.
    buffers: ManuallyDrop<Buffers>,
    _this_thread_only: PhantomData<*const ()>,
}

impl MpiRequest {
    fn new(buffers: Buffers) -> Self {
        // SAFETY: a read of a handle that the C shim defines.
        let request = unsafe { ffi::RSMPI_REQUEST_NULL };
        MpiRequest { request, buffers: ManuallyDrop::new(buffers), _this_thread_only: PhantomData }
    }

    pub fn send(channel: &Channel, awaited: Awaited, to: usize, bytes: Vec<u8>) -> Result<Self, CommError> {
        let whole = Bytes::new(channel, awaited, bytes.len())?;
        let (address, tag) = (bytes.as_ptr().cast::<c_void>(), c_int::from(awaited.tag));
        let mut posted = MpiRequest::new(Buffers::Send(bytes));
        // SAFETY: MPI runs while the channel exists. The address is valid for reads of the vector's length, which is
        // what count and type cover, and stays so until completion, because the request owns the vector.
        let code = unsafe {
            let to = to as c_int;
            let communicator = channel.communicator;
            ffi::MPI_Isend(address, whole.count, whole.datatype, to, tag, communicator, &mut posted.request)
        };
        check(awaited, "MPI_Isend", code)?;
        Ok(posted)
    }

    pub fn receive(
        channel: &Channel,
        awaited: Awaited,
        from: usize,
        mut buffer: Vec<u8>,
        max_len: usize,
    ) -> Result<Self, CommError> {
        buffer.clear();
        buffer.try_reserve(max_len).map_err(|_| CommError::Memory(max_len))?;
        let whole = Bytes::new(channel, awaited, max_len)?;
        let (address, tag) = (buffer.as_mut_ptr().cast::<c_void>(), c_int::from(awaited.tag));
        let mut posted = MpiRequest::new(Buffers::Receive { buffer, max_len });
        // SAFETY: as for the send; the address is valid for writes of the reserved capacity, which is at least max_len.
        let code = unsafe {
            let from = from as c_int;
            let communicator = channel.communicator;
            ffi::MPI_Irecv(address, whole.count, whole.datatype, from, tag, communicator, &mut posted.request)
        };
        check(awaited, "MPI_Irecv", code)?;
        Ok(posted)
    }

    pub fn sum(channel: &Channel, awaited: Awaited, values: Vec<f64>) -> Result<Self, CommError> {
        let count = c_int::try_from(values.len()).map_err(|_| CommError::SumTooLong(values.len()))?;
        let mut sums = channel.spare.borrow_mut().pop().unwrap_or_default();
        sums.clear();
        sums.resize(values.len(), 0.0);
        let (from, into) = (values.as_ptr().cast::<c_void>(), sums.as_mut_ptr().cast::<c_void>());
        let mut posted = MpiRequest::new(Buffers::Sum { values, sums });
        // SAFETY: as for send and receive, with two vectors of `count` numbers each.
        let code = unsafe {
            let (double, sum, communicator) = (ffi::RSMPI_DOUBLE, ffi::RSMPI_SUM, channel.communicator);
            ffi::MPI_Iallreduce(from, into, count, double, sum, communicator, &mut posted.request)
        };
        check(awaited, "MPI_Iallreduce", code)?;
        Ok(posted)
    }

    /// Completes the request if MPI has. After a result or an error there is nothing left to test.
    pub fn test(&mut self, channel: &Channel, awaited: Awaited) -> Result<Option<Completed>, CommError> {
        if matches!(*self.buffers, Buffers::Empty) {
            return Err(CommError::NotPending(awaited));
        }
        let mut flag = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::zeroed();
        // SAFETY: MPI runs while the channel exists; the handle is of an operation that this value posted and that has
        // not completed; flag and status outlive the call.
        let code = unsafe { ffi::MPI_Test(&mut self.request, &mut flag, status.as_mut_ptr()) };
        if code != ffi::MPI_SUCCESS as c_int {
            // After an error MPI leaves open whether it still uses the buffers: they are leaked.
            let buffers = ManuallyDrop::new(mem::replace(&mut *self.buffers, Buffers::Empty));
            return match *buffers {
                Buffers::Receive { max_len, .. } if is_truncation(code) => {
                    Err(CommError::Truncated { awaited, max_len })
                }
                _ => check(awaited, "MPI_Test", code).map(|()| None),
            };
        }
        if flag == 0 {
            return Ok(None);
        }
        match mem::replace(&mut *self.buffers, Buffers::Empty) {
            Buffers::Send(bytes) => Ok(Some(Completed::Sent(bytes))),
            Buffers::Sum { values, sums } => {
                channel.spare.borrow_mut().push(values);
                Ok(Some(Completed::Reduced(sums)))
            }
            Buffers::Receive { mut buffer, max_len } => {
                let mut len: ffi::MPI_Count = 0;
                // SAFETY: the status is that of a completed receive; any bit pattern is a valid MPI_Status.
                let code = unsafe { ffi::MPI_Get_elements_x(status.as_ptr(), ffi::RSMPI_UINT8_T, &mut len) };
                check(awaited, "MPI_Get_elements_x", code)?;
                let len = usize::try_from(len).ok().filter(|&len| len <= max_len);
                let len = len.ok_or(CommError::Truncated { awaited, max_len })?;
                // SAFETY: MPI has written the first `len` bytes, and len ≤ max_len ≤ capacity.
                unsafe { buffer.set_len(len) };
                Ok(Some(Completed::Received(buffer)))
            }
            Buffers::Empty => Err(CommError::NotPending(awaited)),
        }
    }
}

/// Whether an MPI error says that a message was longer than its receive.
fn is_truncation(code: c_int) -> bool {
    let mut class = 0;
    // SAFETY: callers have MPI running; class outlives the call.
    unsafe { ffi::MPI_Error_class(code, &mut class) };
    class == ffi::MPI_ERR_TRUNCATE as c_int
}

/// Turns an MPI return value into an error with the library's text.
fn check(awaited: Awaited, call: &'static str, code: c_int) -> Result<(), CommError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    // More than MPI_MAX_ERROR_STRING of any library.
    let mut text = [0u8; 8192];
    let mut len = 0;
    // SAFETY: callers have MPI running; the buffer is longer than any text of the library.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &mut len) };
    let len = usize::try_from(len).unwrap_or(0).min(text.len());
    let message = String::from_utf8_lossy(&text[..len]).trim().to_string();
    Err(CommError::Mpi { awaited, call, code, message })
}

/// `MPI_Abort` on all ranks if MPI runs; returns if it does not.
///
/// Also called from the panic hook on threads other than MPI's. MPI_THREAD_FUNNELED does not promise that this works,
/// but the process ends in any case, and a launcher then ends the others.
pub(super) fn abort_if_running(exit_code: i32) {
    let (mut started, mut ended) = (0, 0);
    // SAFETY: MPI_Initialized and MPI_Finalized may be called at any time, from any thread; MPI_Abort only between.
    unsafe {
        ffi::MPI_Initialized(&mut started);
        ffi::MPI_Finalized(&mut ended);
        if started != 0 && ended == 0 {
            ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, exit_code);
            std::process::exit(exit_code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_into_blocks_and_a_rest() {
        assert_eq!(Cut::of(1000, 300), Some(Cut { blocks: 3, rest: 100 }));
        assert_eq!(Cut::of(900, 300), Some(Cut { blocks: 3, rest: 0 }));
        assert_eq!(Cut::of(5 << 30, BLOCK), Some(Cut { blocks: 5, rest: 0 }));
        assert_eq!(Cut::of((1 << 31) + 7, BLOCK), Some(Cut { blocks: 2, rest: 7 }));
        assert_eq!(Cut::of(usize::MAX, 1), None);
    }
}
