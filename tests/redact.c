/* A kernel's data, linked where the synthetic machine has its image: the compiler and the linker say where everything is.
 * What the rules in redact.rs name is in the table below, each with what its bytes must become. */

#define USED(x) __attribute__((used)) x
#define S8 'S', 'S', 'S', 'S', 'S', 'S', 'S', 'S'
#define SECRET { S8, S8 }
#define K4 'k', 'e', 'e', 'p'

struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next, **pprev; };
struct hlist_head { struct hlist_node *first; };
struct new_utsname { char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65]; };
struct uts_namespace { int count; struct new_utsname name; };
extern struct uts_namespace init_uts_ns;

typedef struct { char pin[6]; char keep[2]; } pin_t;
struct key {
	char keep[4];
	int id;
	struct { char tag[4]; char payload[16]; int len; } data;
	union { long number; struct { short low, half; }; };
	struct list_head link;
	struct key *next;
	char *name;
	void *blob;
	unsigned char *bytes;
	unsigned short blob_len;
	unsigned flags : 3, more : 5;
	struct { struct { struct list_head node; pin_t pin; } inner; } deep;
};
struct entry { char keep[4]; struct hlist_node node; char secret[10]; char more[2]; };

extern struct list_head key_list;
extern struct key k0, k1, k2;
#define KEY(nxt, prv) .keep = { K4 }, .id = 7, .data = { { K4 }, SECRET, 16 }, .half = 0x5353, .link = { nxt, prv }
struct list_head key_list = { &k0.link, &k2.link };
struct key k0 = { KEY(&k1.link, &key_list) };
struct key k1 = { KEY(&k2.link, &k0.link) };
struct key k2 = { KEY(&key_list, &k1.link) };

char text[] = "keep: SSSSSSSS";
char bytes[16] = SECRET;
char blob[8192] = { [4090] = 'S', 'S', 'S', 'S', S8, S8, K4 };
extern struct key c1, c2, r0, r1;
struct key c0 = { .keep = { K4 }, .data.payload = SECRET, .next = &c1, .name = text + 6 };
struct key c1 = { .keep = { K4 }, .data.payload = SECRET, .next = &c2, .blob = blob + 4090, .blob_len = 20 };
struct key c2 = { .keep = { K4 }, .data.payload = SECRET, .bytes = (unsigned char *)bytes, .blob_len = 16 };
struct key *chain = &c0;
struct key r0 = { .id = 0x53535353, .next = &r1 };
struct key r1 = { .id = 0x53535353, .next = &r0 };

extern struct entry e0, e1, e2;
struct hlist_head table[4] = { [1] = { &e0.node }, [3] = { &e2.node } };
struct entry e0 = { { K4 }, { &e1.node, &table[1].first }, { S8, 'S', 'S' }, { 'k', 'k' } };
struct entry e1 = { { K4 }, { 0, &e0.node.next }, { S8, 'S', 'S' }, { 'k', 'k' } };
struct entry e2 = { { K4 }, { 0, &table[3].first }, { S8, 'S', 'S' }, { 'k', 'k' } };

struct key p0 = { .keep = { K4 }, .number = 0x5353535353535353 }, p1 = { .keep = { K4 }, .number = 0x5353535353535353 };
struct key *pointers[5] = { &p0, 0, &p1, &p0, (struct key *)-12 };
char grid[3][5] = { "SSSSS", "SSSSS", "SSSSS" };
struct key *const volatile aside = &p1;
extern struct list_head deep_list;
struct key whole = { .id = 1, .name = text, .data.payload = SECRET, .deep.inner.node = { &deep_list, &deep_list } };
struct key *to_whole = &whole;
struct key behind = { .keep = { K4 }, .id = 0x53535353 }, *one = &behind, **two = &one;
pin_t pin = { { 'S', 'S', 'S', 'S', 'S', 'S' }, { 'k', 'k' } };
static USED(struct { char keep[4]; char hidden[8]; }) anonymous = { { K4 }, { S8 } };
long scalar = 0x5353535353535353;
void *opaque = blob;
void *nothing;
struct list_head empty = { &empty, &empty };
struct list_head deep_list = { &whole.deep.inner.node, &whole.deep.inner.node };
/* Mapped as two pages that do not follow each other in memory. */
char *far = (char *)0xffffc90000000ff8;
/* Not mapped. */
char *lost = (char *)0xffffa00000000000;
struct list_head broken;
struct key h0 = { .next = &h0 }, h1, h2;
struct key h1 = { .next = &h2 }, h2 = { .next = &h2 }, *circle = &h1;
unsigned long huge = 1UL << 40;

extern char keep_this;
char keep_this = 'k';

#define OVER(object) { &(object), sizeof(object), 'X' }
#define NULLED(object) { &(object), sizeof(object), 0 }
__attribute__((section(".truth"), used)) struct { void *at; unsigned long len, fill; } truth[] = {
	OVER(init_uts_ns.name.nodename),
	OVER(k0.data.payload), OVER(k1.data.payload), OVER(k2.data.payload),
	OVER(k0.half), OVER(k1.half), OVER(k2.half),
	OVER(c0.data.payload), OVER(c1.data.payload), OVER(c2.data.payload),
	{ text + 6, 8, 'X' }, { blob + 4090, 20, 'X' }, { bytes, 16, 'X' },
	OVER(r0.id), OVER(r1.id),
	OVER(e0.secret), OVER(e1.secret), OVER(e2.secret),
	OVER(p0.number), OVER(p1.number),
	OVER(grid), OVER(whole), OVER(behind.id), OVER(pin.pin), OVER(anonymous.hidden), OVER(scalar),
	NULLED(opaque), NULLED(c0.blob), NULLED(c1.blob), NULLED(c2.blob),
	{ (void *)0xffffc90000000ff8, 16, 'X' },
};
